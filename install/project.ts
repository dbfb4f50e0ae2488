import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parse } from "smol-toml";
import { Refusal } from "./refusal.ts";

/** What was installed, as `supabase/holdfast.json` has it. */
export interface Manifest {
  /** The version of Holdfast. */
  version: string;
  /** The query that says who belongs to which tenant, if the project keeps its members in tables of its own. */
  members?: string;
  /** The project's migration that each of the package's is in. */
  migrations: Record<string, string>;
  /** SHA-256 of each file as it was installed, by its path below `supabase/`. */
  files: Record<string, string>;
}

/** A Supabase project. */
export interface Project {
  /** Its folder `supabase`. */
  supabase: string;
  config: { text: string; settings: Settings };
  /** Names of its migrations, in order. */
  migrations: string[];
  /** What is installed; none: nothing is. */
  manifest?: Manifest;
  /** Reads a file below `supabase/`; none: `null`. */
  read(path: string): Promise<string | null>;
}

/** What Holdfast looks at in config.toml. */
export interface Settings {
  api?: { enabled?: boolean; schemas?: string[] };
  edge_runtime?: { enabled?: boolean };
  functions?: Record<string, Record<string, unknown>>;
}

/** Where the manifest is, below `supabase/`. */
export const MANIFEST = "holdfast.json";

/**
 * Finds and reads the Supabase project of a folder, as the Supabase CLI does: there or above it.
 *
 * @param folder Where to look.
 * @returns The project.
 * @throws {Refusal} When there is none, or one that cannot be read.
 */
export async function readProject(folder: string): Promise<Project> {
  const supabase = await find(folder);
  const read = (path: string) =>
    readFile(join(supabase, path), "utf8").catch((error) => {
      if (error.code === "ENOENT") return null;
      throw error;
    });
  const text = (await read("config.toml"))!;
  const names = await readdir(join(supabase, "migrations")).catch(() => [] as string[]);
  const manifest = await read(MANIFEST);
  return {
    supabase,
    config: { text, settings: parseConfig(text) },
    migrations: names.filter((name) => /^\d+_.*\.sql$/.test(name)).sort(),
    ...(manifest === null ? {} : { manifest: parseManifest(manifest) }),
    read,
  };
}

async function find(folder: string): Promise<string> {
  for (let at = resolve(folder);; at = dirname(at)) {
    const file = join(at, "supabase", "config.toml");
    if (await stat(file).then((found) => found.isFile(), () => false)) return dirname(file);
    if (at === dirname(at)) break;
  }
  throw new Refusal(
    `There is no supabase/config.toml in ${resolve(folder)} or above it. ` +
      "Make a project with `npx supabase init`, or name its folder with --workdir.",
  );
}

/**
 * Reads the text of a config.toml.
 *
 * @param text The text.
 * @returns The settings.
 * @throws {Refusal} When it is no TOML.
 */
export function parseConfig(text: string): Settings {
  try {
    return parse(text);
  } catch (error) {
    const [why] = (error as Error).message.split("\n");
    throw new Refusal(`supabase/config.toml cannot be read: ${why}`);
  }
}

function parseManifest(text: string): Manifest {
  try {
    const manifest = JSON.parse(text);
    if (typeof manifest.version === "string" && manifest.migrations && manifest.files) {
      return manifest;
    }
  } catch {
    // as if it had no such content
  }
  throw new Refusal(
    `supabase/${MANIFEST} is not as Holdfast wrote it. Put it back as it was, from version control.`,
  );
}
