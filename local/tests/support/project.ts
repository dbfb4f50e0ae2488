import { parse, stringify } from "@std/toml";
import { dirname, join } from "node:path";

/** A project of a test's own, and a place for its data. */
export interface Project extends AsyncDisposable {
  /** The folder that has `supabase/`. */
  path: string;
  /** A data folder, which does not exist yet. */
  data: string;
  write(file: string, text: string): Promise<void>;
}

/** An empty folder for the length of a test. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "holdfast-test-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/**
 * Makes a project in a temporary folder.
 *
 * @param files Texts by path below `supabase/`.
 * @returns The project; end it with `await using`.
 */
export async function makeProject(files: Record<string, string> = {}): Promise<Project> {
  const root = await Deno.makeTempDir({ prefix: "holdfast-project-" });
  const write = async (file: string, text: string) => {
    const path = join(root, "supabase", file);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeTextFile(path, text);
  };
  for (const [file, text] of Object.entries(files)) await write(file, text);
  return {
    path: root,
    data: join(root, ".holdfast"),
    write,
    [Symbol.asyncDispose]: () => Deno.remove(root, { recursive: true }),
  };
}

/** This project's own config.toml with other values in it, by their path (`api.max_rows`). */
export async function configWith(values: Record<string, unknown>): Promise<string> {
  const own = join(import.meta.dirname!, "../../../supabase/config.toml");
  // deno-lint-ignore no-explicit-any
  const config: any = parse(await Deno.readTextFile(own));
  for (const [path, value] of Object.entries(values)) {
    const keys = path.split(".");
    const last = keys.pop()!;
    keys.reduce((at, key) => at[key] ??= {}, config)[last] = value;
  }
  return stringify(config);
}
