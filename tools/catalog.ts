import { dump } from "./pg_dump.ts";

/** All that pg_dump finds in a database but its rows: the SQL of each entry, by what the entry is. */
export type Catalog = ReadonlyMap<string, string>;

/** An entry that two databases do not have alike. */
export interface Difference {
  /** pg_dump's type: FUNCTION, TABLE, ACL, COMMENT, … */
  readonly type: string;
  /** The schema; `-` for what has none. */
  readonly schema: string;
  /** pg_dump's name; of an ACL or a COMMENT it begins with the kind of object. */
  readonly name: string;
  /** What the one database has; `undefined` if it lacks the entry. */
  readonly is: string | undefined;
  /** What the other one has. */
  readonly should: string | undefined;
}

const ENTRY = /^--\n-- Name: (.*); Type: (.*); Schema: (.*); Owner: .*\n--\n/m;

/**
 * Reads a database's catalog with PostgreSQL's own pg_dump: columns, defaults, constraints, indexes, functions with their
 * bodies and settings, triggers, types, comments, grants, policies, publications, default privileges, owners.
 *
 * @param url The database, as its owner.
 * @returns The entries.
 */
export async function catalogOf(url: string): Promise<Catalog> {
  const text = await dump(url, ["--schema-only"]);
  const [, ...parts] = text.split(ENTRY);
  const catalog = new Map<string, string>();
  for (let at = 0; at < parts.length; at += 4) {
    const [name, type, schema, sql] = parts.slice(at, at + 4);
    // settings of the dump itself; and grants come in the order in which they were made
    const lines = sql!.trim().split("\n").filter((line) => !/^(SET \w+ = |\\)/.test(line));
    catalog.set(
      [type, schema, name].join("\t"),
      (type === "ACL" || type === "DEFAULT ACL" ? lines.sort() : lines).join("\n").trim(),
    );
  }
  return catalog;
}

/**
 * Compares two catalogs.
 *
 * @param is One of them.
 * @param should The other one.
 * @returns What differs, in no particular order; nothing where both are the same.
 */
export function differences(is: Catalog, should: Catalog): Difference[] {
  return [...new Set([...is.keys(), ...should.keys()])].flatMap((key) => {
    const [type, schema, name] = key.split("\t") as [string, string, string];
    const [a, b] = [is.get(key), should.get(key)];
    return a === b ? [] : [{ type, schema, name, is: a, should: b }];
  });
}
