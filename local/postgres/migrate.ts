import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { splitSql } from "./split_sql.ts";
import { StackError } from "../stack_error.ts";

/**
 * Applies what is new in `supabase/migrations`, then `supabase/seed.sql` if it never was, and records both where the
 * Supabase CLI does. Each file is one transaction of the role `postgres`: it happens wholly or not at all.
 *
 * @param dbUrl The database, as a user who is `postgres` or may become it.
 * @param supabase The project's `supabase` folder.
 * @param onApply Told about each file before it runs.
 * @throws {StackError} With file, line, column and the server's words, when a file fails. The files before it stay applied.
 */
export async function migrate(
  dbUrl: string,
  supabase: string,
  onApply: (file: string) => void = () => {},
): Promise<void> {
  const client = new pg.Client({ connectionString: dbUrl });
  client.on("error", () => {});
  await client.connect();
  try {
    await client.query("set role postgres");
    await client.query(HISTORY);
    const { rows } = await client.query(
      "select version from supabase_migrations.schema_migrations",
    );
    const applied = new Set(rows.map(({ version }) => version));

    for (const { file, version, name } of await migrations(join(supabase, "migrations"))) {
      if (applied.has(version)) continue;
      onApply(file);
      await apply(client, join(supabase, "migrations", file), (script) => ({
        text:
          "insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, $3)",
        values: [version, name, splitSql(script)],
      }));
    }

    const seed = join(supabase, "seed.sql");
    const { rowCount } = await client.query(
      "select from supabase_migrations.seed_files where path = $1",
      [SEED],
    );
    if (rowCount || !await Deno.stat(seed).then(() => true, () => false)) return;
    onApply("seed.sql");
    await apply(client, seed, async (script) => ({
      text: "insert into supabase_migrations.seed_files (path, hash) values ($1, $2)",
      values: [SEED, await sha256(script)],
    }));
  } finally {
    await client.end();
  }
}

const SEED = "supabase/seed.sql";

const HISTORY = `
  create schema if not exists supabase_migrations;
  create table if not exists supabase_migrations.schema_migrations (
    version text not null primary key,
    statements text[],
    name text
  );
  create table if not exists supabase_migrations.seed_files (
    path text not null primary key,
    hash text not null
  );
`;

async function migrations(
  folder: string,
): Promise<{ file: string; version: string; name: string }[]> {
  const files: string[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) files.push(entry.name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return files.sort().flatMap((file) => {
    const [, version, name] = file.match(/^(\d+)_(.*)\.sql$/) ?? [];
    return version && name ? [{ file, version, name }] : [];
  });
}

async function apply(
  client: pg.Client,
  path: string,
  record: (script: string) => pg.QueryConfig | Promise<pg.QueryConfig>,
): Promise<void> {
  const script = await Deno.readTextFile(path);
  try {
    await client.query("begin");
    await client.query(script);
    await client.query("reset all"); // settings of one file are not those of the next; the role is no setting here
    await client.query(await record(script));
    await client.query("commit");
  } catch (error) {
    await client.query("rollback").catch(() => {});
    throw error instanceof pg.DatabaseError ? failure(path, script, error) : error;
  }
}

function failure(path: string, script: string, error: pg.DatabaseError): StackError {
  const before = script.slice(0, Number(error.position ?? 0)).split("\n");
  const where = error.position ? `:${before.length}:${before.at(-1)!.length}` : "";
  const more = [error.detail, error.hint && `Hint: ${error.hint}`, error.where].filter(Boolean);
  return new StackError(
    [`${path}${where}: ${error.message} (SQLSTATE ${error.code})`, ...more].join("\n  "),
  );
}

async function sha256(text: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)))
    .toHex();
}
