import { catalogOf, type Difference, differences } from "./catalog.ts";
import type { ScratchServer } from "./scratch_server.ts";
import { sqlStatements, type Statement } from "./sql_statements.ts";

/** What can be said again with other words, by pg_dump's type of what differs. */
const REPLACEABLE: Record<string, string> = {
  FUNCTION: "CreateFunctionStmt",
  VIEW: "ViewStmt",
  TRIGGER: "CreateTrigStmt",
  POLICY: "CreatePolicyStmt",
  ACL: "GrantStmt",
  COMMENT: "CommentStmt",
};

/** What is new with all that belongs to it. What belongs to a table that was there before is left to the developer. */
const WHOLE = /^(SCHEMA|TABLE|TYPE|DOMAIN|SEQUENCE|INDEX)$/;

/** The next migration, as far as it can be made. */
export interface NextMigration {
  /** Its SQL; empty where nothing can be made. */
  readonly text: string;
  /** What still differs after it: a table's columns, a domain, an index. That is the developer's to write. */
  readonly left: readonly Difference[];
  /** Why it does not run without what is left. */
  readonly failure: string | undefined;
}

/**
 * Makes what brings a database that has the migrations to what supabase/schemas says: functions, views, triggers,
 * policies, grants, comments, and what is new as a whole. It is tried before it is returned.
 *
 * @param server Where databases are made to compare.
 * @param migrations The migrations so far, in order.
 * @param schemas What supabase/schemas says, in the transactions that it is parted into.
 * @returns The migration.
 */
export async function nextMigration(
  server: ScratchServer,
  migrations: readonly string[],
  schemas: readonly string[],
): Promise<NextMigration> {
  const wanted = await catalogOf(await server.database(...schemas));
  const found = differences(await catalogOf(await server.database(...migrations)), wanted);
  const statements = (await Promise.all(schemas.map(sqlStatements))).flat();
  const text = [
    ...found.flatMap(drop),
    ...statements.filter((statement) => found.some((one) => isAbout(statement, one))).map(again),
  ].map((part) => `${part};\n`).join("\n");
  try {
    const now = await catalogOf(await server.database(...migrations, text));
    return { text, left: differences(now, wanted), failure: undefined };
  } catch (error) {
    const left = found.filter(({ type, is }) =>
      is !== undefined && !Object.hasOwn(REPLACEABLE, type)
    );
    return { text, left, failure: (error as Error).message };
  }
}

/** What is gone from the schemas. */
function drop({ type, schema, name, should }: Difference): string[] {
  if (should !== undefined) return [];
  if (type === "FUNCTION" || type === "VIEW") {
    return [`drop ${type.toLowerCase()} ${schema}.${name}`];
  }
  const [table, own] = name.split(" ");
  return type === "TRIGGER" || type === "POLICY"
    ? [`drop ${type.toLowerCase()} ${own} on ${schema}.${table}`]
    : [];
}

/** Whether a statement makes, or is part of what makes, the entry as it should be. */
function isAbout({ kind, text }: Statement, { type, schema, name, is }: Difference): boolean {
  const replaceable = REPLACEABLE[type];
  if (replaceable ? kind !== replaceable : is !== undefined || !WHOLE.test(type)) return false;
  const words = name.replace(/\(.*/, "").split(" ");
  const own = words.at(-1)!;
  const hasNoSchema = schema === "-" || ["TRIGGER", "POLICY", "INDEX"].includes(type);
  const named = hasNoSchema ? own : `${schema}.${own}`;
  // of a new table its columns' comments, too; but not, for a table's comment, those of its columns
  const end = replaceable ? "(?![\\w.])" : "\\b";
  return new RegExp(`(?<![\\w.])${RegExp.escape(named)}${end}`).test(head({ kind, text }));
}

/** A statement up to where it only describes: its names. */
function head({ kind, text }: Statement): string {
  const statement = text.replace(/^(--.*\n|\n)+/, "");
  const ends: Record<string, RegExp> = {
    CreateFunctionStmt: /\(/,
    ViewStmt: /\bas\b/,
    CommentStmt: /\bis\b/,
  };
  return statement.split(ends[kind] ?? /$^/)[0]!;
}

/** A statement as it is said where an older one was said before. */
function again({ kind, text }: Statement): string {
  if (kind === "CreatePolicyStmt") {
    const [, policy, table] = /^create policy (\S+) on (\S+)/m.exec(text)!;
    return text.replace(/^create policy/m, `drop policy if exists ${policy} on ${table};\n$&`);
  }
  return text.replace(/^create (function|view|trigger) /m, "create or replace $1 ");
}
