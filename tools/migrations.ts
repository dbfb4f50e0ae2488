/**
 * `deno task migrations`: makes supabase/migrations from supabase/schemas.
 *
 *     deno task migrations              until a release: writes the two migrations anew
 *     deno task migrations --release    at a release: from now on these migrations are never edited
 *     deno task migrations shorter_line   afterwards: writes …_holdfast_shorter_line.sql, with what has changed
 *
 * The application's own tables are a migration of their own, which a project that has its own leaves out.
 *
 * @module
 */
import { join } from "node:path";
import { nextMigration } from "./next_migration.ts";
import { type ScratchServer, startScratchServer } from "./scratch_server.ts";

const SUPABASE = join(import.meta.dirname!, "..", "supabase");
/** The one place that says what is released: the migrations' SHA-256 by the names of their files. */
const RELEASED = join(import.meta.dirname!, "released_migrations.json");

/** The migrations up to 0.1.0, and which files of supabase/schemas each is made of. */
const GENERATED: [migration: string, belongs: (schema: string) => boolean][] = [
  ["20261125000000_videos_and_members.sql", (name) => name.startsWith("01_")],
  ["20261125000100_holdfast.sql", (name) => !name.startsWith("01_")],
];

/** The names of Holdfast's own migrations; all others are the project's that it is used in. */
const OWN = /^\d+_(videos_and_members|holdfast\w*)\.sql$/;

/** The texts of a folder's files, by their names and in their order. */
async function texts(folder: string, isWanted: (name: string) => boolean) {
  const names = Array.from(Deno.readDirSync(folder), ({ name }) => name).filter(isWanted).sort();
  const entries = names.map(async (name) =>
    [name, await Deno.readTextFile(join(folder, name))] as const
  );
  return new Map(await Promise.all(entries));
}

/**
 * The files of supabase/schemas.
 *
 * @param supabase The folder `supabase`.
 * @returns The texts by the names of their files, in order.
 */
export function schemaFiles(supabase = SUPABASE): Promise<Map<string, string>> {
  return texts(join(supabase, "schemas"), (name) => name.endsWith(".sql"));
}

/**
 * Holdfast's own migrations as they are.
 *
 * @param supabase The folder `supabase`.
 * @returns The texts by the names of their files, in order.
 */
export function ownMigrations(supabase = SUPABASE): Promise<Map<string, string>> {
  return texts(join(supabase, "migrations"), (name) => OWN.test(name));
}

/**
 * What supabase/schemas says, in one transaction for the application's tables and one for Holdfast. As long as nothing is
 * released, these are the migrations.
 *
 * @param supabase The folder `supabase`.
 * @returns The texts by the names of their files.
 */
export async function generatedMigrations(supabase = SUPABASE): Promise<Map<string, string>> {
  const files = [...await schemaFiles(supabase)];
  return new Map(GENERATED.map(([migration, belongs]) => {
    const parts = files.filter(([name]) => belongs(name)).map(([, text]) => text.trimEnd());
    const note = "-- Generated from supabase/schemas by `deno task migrations`; change it there.";
    return [migration, [note, ...parts].join("\n\n") + "\n"];
  }));
}

/**
 * What is released: it is never edited any more.
 *
 * @returns The migrations' SHA-256, as hexadecimal digits, by the names of their files. None: nothing is released yet.
 */
export async function releasedMigrations(): Promise<Record<string, string>> {
  return JSON.parse(await Deno.readTextFile(RELEASED));
}

/**
 * Compares migrations with those that were released.
 *
 * @param migrations Texts by the names of their files.
 * @param released SHA-256 by the names of the files.
 * @returns The names of released migrations that are not there or not as they were.
 */
export async function editedMigrations(
  migrations: ReadonlyMap<string, string>,
  released: Record<string, string>,
): Promise<string[]> {
  const now = await checksums(migrations);
  return Object.keys(released).filter((name) => now[name] !== released[name]);
}

async function checksums(files: ReadonlyMap<string, string>): Promise<Record<string, string>> {
  const entries = [...files].map(async ([name, text]) => {
    const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return [name, new Uint8Array(hash).toHex()];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/**
 * Writes the next migration: what has changed in supabase/schemas since the last one.
 *
 * @param what Names the change, and the file: small letters, digits and underscores.
 * @param server Where databases are made to compare.
 * @param supabase The folder `supabase`.
 * @param now When it is made; names the file, too.
 * @returns The file's name, or `undefined` where nothing has changed; what is left to write by hand into it; and why it
 *   does not run without that.
 * @throws {Error} When the name is none.
 */
export async function writeNextMigration(
  what: string,
  server: ScratchServer,
  supabase = SUPABASE,
  now = new Date(),
): Promise<{ name: string | undefined; left: string[]; failure: string | undefined }> {
  if (!/^[a-z0-9_]+$/.test(what)) throw new Error(`Not the name of a change: ${what}`);
  const migrations = await ownMigrations(supabase);
  const schemas = await generatedMigrations(supabase);
  const { text, left, failure } = await nextMigration(
    server,
    [...migrations.values()],
    [...schemas.values()],
  );
  if (text === "" && left.length === 0) return { name: undefined, left: [], failure };
  const last = Math.max(0, ...[...migrations.keys()].map((name) => parseInt(name)));
  const version = Math.max(Number(now.toISOString().replace(/\D/g, "").slice(0, 14)), last + 1);
  const name = `${version}_holdfast_${what}.sql`;
  const note = "-- Made of what has changed in supabase/schemas, by `deno task migrations`.";
  await Deno.writeTextFile(join(supabase, "migrations", name), `${note}\n\n${text}`);
  return {
    name,
    left: left.map(({ type, schema, name }) => `${type} ${schema}.${name}`),
    failure,
  };
}

async function main([what]: string[]): Promise<void> {
  if (what === "--release") {
    const released = await checksums(await ownMigrations());
    await Deno.writeTextFile(RELEASED, JSON.stringify(released, null, 2) + "\n");
    console.log(`From now on these are never edited:\n  ${Object.keys(released).join("\n  ")}`);
  } else if (Object.keys(await releasedMigrations()).length === 0) {
    for (const [name, text] of await generatedMigrations()) {
      await Deno.writeTextFile(join(SUPABASE, "migrations", name), text);
      console.log(`supabase/migrations/${name}`);
    }
  } else if (what === undefined) {
    throw new Error(
      "Migrations are released: name the change, such as: deno task migrations shorter_line",
    );
  } else {
    await using server = await startScratchServer();
    const { name, left, failure } = await writeNextMigration(what, server);
    console.log(name ? `supabase/migrations/${name}` : "Nothing has changed.");
    if (failure) console.log(`It does not run yet: ${failure}`);
    if (left.length > 0) console.log(`Left to write there by hand:\n  ${left.join("\n  ")}`);
  }
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
}
