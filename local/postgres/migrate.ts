import { globSync } from "node:fs";
import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import type { Config } from "../config.ts";
import { StackError } from "../stack_error.ts";

/** What to apply, of which settings in config.toml. */
export interface MigrateOptions {
  migrations?: Config["db"]["migrations"];
  seed?: Config["db"]["seed"];
  /** Called before each file runs. */
  onProgress?: (message: string) => void;
}

/**
 * Applies what is new in `supabase/migrations`, then the seed files that never were, and records both where the
 * Supabase CLI does. Each file is one transaction of the role `postgres`: it happens wholly or not at all.
 *
 * @param dbUrl The database, as a user who is `postgres` or may become it.
 * @param supabase The project's `supabase` folder.
 * @param options See {@linkcode MigrateOptions}; by default all migrations, and `seed.sql`.
 * @throws {StackError} With file, line, column and the server's words, when a file fails. The files before it stay
 *   applied. Before any is, when the folder has another past than the database.
 */
export async function migrate(
  dbUrl: string,
  supabase: string,
  {
    migrations = { enabled: true },
    seed = { enabled: true, sql_paths: ["./seed.sql"] },
    onProgress = () => {},
  }: MigrateOptions = {},
): Promise<void> {
  const client = new pg.Client({ connectionString: dbUrl, connectionTimeoutMillis: 10_000 });
  client.on("error", () => {});
  await client.connect();
  try {
    await client.query("set role postgres");
    await client.query(HISTORY);
    if (migrations.enabled) await applyMigrations(client, join(supabase, "migrations"), onProgress);
    if (seed.enabled) await applySeed(client, supabase, seed.sql_paths, onProgress);
  } finally {
    await client.end();
  }
}

async function applyMigrations(
  client: pg.Client,
  folder: string,
  onProgress: (message: string) => void,
): Promise<void> {
  const { rows: applied } = await client.query<Applied>(
    "select version, name, statements from supabase_migrations.schema_migrations order by version",
  );
  const files = await readMigrations(folder);
  assertSamePast(applied, files);
  const versions = new Set(applied.map(({ version }) => version));
  for (const { file, path, version, name, script } of files) {
    if (versions.has(version)) continue;
    onProgress(`applying ${file}`);
    await apply(client, path, script, {
      text:
        "insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, $3)",
      values: [version, name, [script]],
    });
  }
}

/** A migration that a database has. The Supabase CLI records each statement of it apart, this stack all in one. */
interface Applied {
  version: string;
  name: string;
  statements: string[] | null;
}

interface Migration {
  file: string;
  path: string;
  version: string;
  name: string;
  script: string;
}

/** An applied file that has changed, is gone or has come too late would be ignored, and what runs is not what one reads. */
function assertSamePast(applied: Applied[], files: Migration[]): void {
  const wayOut = "\nA change needs a migration of its own, later than all others. " +
    "To begin anew with the files as they are, start with --fresh, which forgets all data.";
  const byVersion = new Map(files.map((file) => [file.version, file]));
  for (const { version, name, statements } of applied) {
    const { path, script } = byVersion.get(version) ?? {};
    if (path === undefined) {
      throw new StackError(
        `The database has the migration ${version}_${name}.sql, which is not in supabase/migrations (any more). ` +
          `Put it back.${wayOut}`,
      );
    }
    if (statements && text(statements.join(";\n")) !== text(script!)) {
      throw new StackError(
        `${path} was changed after it had been applied, and the database is as it was before. ` +
          `Put the file back.${wayOut}`,
      );
    }
  }
  const last = applied.at(-1);
  const late = files.find(({ version }) =>
    last && version < last.version && !applied.some((one) => one.version === version)
  );
  if (late) {
    throw new StackError(
      `${late.path} has not been applied, and is older than ${last!.version}_${
        last!.name
      }.sql, which has. ` +
        `Give it a later version.${wayOut}`,
    );
  }
}

/** A script without what the Supabase CLI leaves out of its record. */
function text(script: string): string {
  return script.replace(/[\s;]+/g, "");
}

async function applySeed(
  client: pg.Client,
  supabase: string,
  patterns: string[],
  onProgress: (message: string) => void,
): Promise<void> {
  const { rows } = await client.query<{ path: string; hash: string }>(
    "select path, hash from supabase_migrations.seed_files",
  );
  const applied = new Map(rows.map(({ path, hash }) => [path, hash]));
  for (const file of patterns.flatMap((pattern) => globSync(pattern, { cwd: supabase }).sort())) {
    const path = `supabase/${file}`;
    const script = await Deno.readTextFile(join(supabase, file));
    const hash = await sha256(script);
    if (applied.get(path) === hash) continue;
    if (applied.has(path)) {
      onProgress(`${path} has changed since it was applied, and stays as it was (see --fresh)`);
      continue;
    }
    onProgress(`applying ${file}`);
    await apply(client, join(supabase, file), script, {
      text: "insert into supabase_migrations.seed_files (path, hash) values ($1, $2)",
      values: [path, hash],
    });
  }
}

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

async function readMigrations(folder: string): Promise<Migration[]> {
  const found: Migration[] = [];
  for (const file of globSync("*.sql", { cwd: folder }).sort()) {
    const [, version, name] = file.match(/^(\d+)_(.*)\.sql$/) ?? [];
    if (!version || !name) continue;
    const path = join(folder, file);
    found.push({ file, path, version, name, script: await Deno.readTextFile(path) });
  }
  return found;
}

async function apply(
  client: pg.Client,
  path: string,
  script: string,
  record: pg.QueryConfig,
): Promise<void> {
  try {
    await client.query("begin");
    await client.query(script);
    await client.query("reset all"); // settings of one file are not those of the next; the role is no setting here
    await client.query(record);
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
