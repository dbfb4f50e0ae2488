import { loadModule, parse } from "libpg-query";

/** What the parser says of a statement; its own types name a package that is not there. */
interface Parsed {
  stmt: Record<string, unknown>;
  /** Where it begins, in bytes; left out for 0. */
  stmt_location?: number;
  /** Its length in bytes; left out for the rest. */
  stmt_len?: number;
}

/** One statement of a script, with the comments in front of it. */
export interface Statement {
  /** PostgreSQL's name for it: `CreateFunctionStmt`, `GrantStmt`, … */
  readonly kind: string;
  /** Its text, without the semicolon. */
  readonly text: string;
}

/**
 * Splits a script as PostgreSQL's own parser does.
 *
 * @param script The SQL.
 * @returns Its statements, in order.
 * @throws {Error} When it is not SQL.
 */
export async function sqlStatements(script: string): Promise<Statement[]> {
  await loadModule();
  const bytes = new TextEncoder().encode(script); // the parser counts bytes
  const { stmts = [] }: { stmts?: Parsed[] } = await parse(script);
  return stmts.map(({ stmt, stmt_location: from = 0, stmt_len: length }) => ({
    kind: Object.keys(stmt)[0]!,
    text: new TextDecoder()
      .decode(bytes.subarray(from, length === undefined ? undefined : from + length)).trim(),
  }));
}
