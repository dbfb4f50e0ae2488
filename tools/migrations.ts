/**
 * Makes supabase/migrations from supabase/schemas, as long as nothing was released: `deno task migrations`.
 *
 * The application's own tables are a migration of their own, which a project that has its own leaves out.
 *
 * @module
 */
import { join } from "node:path";

const SUPABASE = join(import.meta.dirname!, "..", "supabase");

/** The migrations up to 0.1.0, and which files of supabase/schemas each is made of. */
const GENERATED: [migration: string, belongs: (schema: string) => boolean][] = [
  ["20261125000000_videos_and_members.sql", (name) => name.startsWith("01_")],
  ["20261125000100_holdfast.sql", (name) => !name.startsWith("01_")],
];

/**
 * The text of each generated migration.
 *
 * @param supabase The folder `supabase`.
 * @returns The texts by the names of their files.
 */
export async function generatedMigrations(supabase = SUPABASE): Promise<Map<string, string>> {
  const folder = join(supabase, "schemas");
  const names = Array.from(Deno.readDirSync(folder), ({ name }) => name)
    .filter((name) => name.endsWith(".sql")).sort();
  const texts = new Map<string, string>();
  for (const [migration, belongs] of GENERATED) {
    const parts = await Promise.all(
      names.filter(belongs).map((name) => Deno.readTextFile(join(folder, name))),
    );
    texts.set(
      migration,
      "-- Generated from supabase/schemas by `deno task migrations`; change it there.\n\n" +
        parts.map((part) => part.trimEnd()).join("\n\n") + "\n",
    );
  }
  return texts;
}

if (import.meta.main) {
  for (const [name, text] of await generatedMigrations()) {
    await Deno.writeTextFile(join(SUPABASE, "migrations", name), text);
    console.log(`supabase/migrations/${name}`);
  }
}
