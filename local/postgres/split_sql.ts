/**
 * Splits an SQL script into its statements, as they are recorded in `supabase_migrations.schema_migrations`.
 *
 * Knows what may hide a semicolon: strings, quoted names, dollar quotes, comments, and the body of a
 * `begin atomic … end` function.
 *
 * @param script Any number of SQL statements.
 * @returns The statements without their semicolons and without blank ends. Comments stay with the statement after them.
 * @example
 * ```ts
 * import { splitSql } from "./split_sql.ts";
 *
 * console.assert(splitSql("select ';'; select 2;").length === 2);
 * ```
 */
export function splitSql(script: string): string[] {
  const statements: string[] = [];
  let start = 0;
  let depth = 0; // of `begin atomic` and the `case`s in it
  let empty = true; // nothing but comments so far
  const finish = (end: number) => {
    if (!empty) statements.push(script.slice(start, end).trim());
    empty = true;
    depth = 0;
  };
  for (const { 0: token, index } of script.matchAll(TOKEN)) {
    if (token === ";" && depth === 0) {
      finish(index);
      start = index + 1;
    } else if (!token.startsWith("--") && !token.startsWith("/*")) {
      empty = false;
      if (/^begin\s+atomic$/i.test(token)) depth = 1;
      else if (depth > 0 && /^case$/i.test(token)) depth++;
      else if (depth > 0 && /^end$/i.test(token)) depth--;
    }
  }
  finish(script.length);
  return statements;
}

const TOKEN = new RegExp(
  [
    /--[^\n]*/, // comment
    /\/\*[\s\S]*?\*\//, // comment; nested ones are as good as unknown in migrations
    /\be'(?:[^'\\]|\\[\s\S]|'')*'/, // string with escapes
    /'(?:[^']|'')*'/, // string
    /"(?:[^"]|"")*"/, // quoted name
    /(?<![\w$])\$(?<tag>[a-z_]\w*)?\$[\s\S]*?\$\k<tag>\$/, // dollar quotes
    /\bbegin\s+atomic\b/,
    /[\w$]+/,
    /[^\s\w]/,
  ].map((part) => part.source).join("|"),
  "gi",
);
