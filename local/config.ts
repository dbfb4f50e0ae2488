import { parse } from "@std/toml";
import { join } from "node:path";
import { StackError } from "./stack_error.ts";

/** What the stack obeys of `supabase/config.toml`, under the names that it has there. Anything else there is ignored. */
export interface Config {
  api: { port: number; schemas: string[]; extra_search_path: string[]; max_rows: number };
  db: {
    port: number;
    major_version: number;
    migrations: { enabled: boolean };
    seed: { enabled: boolean; sql_paths: string[] };
  };
  auth: {
    site_url: string;
    jwt_expiry: number;
    enable_signup: boolean;
    email: { enable_confirmations: boolean };
  };
  /** A function without a block is enabled, and is where its name says. */
  functions: Record<string, FunctionConfig>;
}

/** The block of one function. Its paths begin at `supabase/`. */
export interface FunctionConfig {
  enabled?: boolean;
  verify_jwt?: boolean;
  entrypoint?: string;
  import_map?: string;
}

/**
 * Reads a project's `supabase/config.toml`, the one home of ports, schemas and limits: there is no default for them
 * here. A project without such a file has this project's own.
 *
 * @param supabase The project's `supabase` folder.
 * @returns The settings.
 * @throws {StackError} When the file is no TOML, or lacks a setting or has one of another type: with its name.
 */
export async function readConfig(supabase: string): Promise<Config> {
  const own = join(import.meta.dirname!, "../supabase/config.toml");
  const file = join(supabase, "config.toml");
  const text = await Deno.readTextFile(file).catch(() => Deno.readTextFile(own));
  let settings: unknown;
  try {
    settings = parse(text);
  } catch (error) {
    throw new StackError(`${file}: ${error instanceof Error ? error.message : error}`);
  }
  for (const [path, type] of SETTINGS) {
    // deno-lint-ignore no-explicit-any
    const value = path.split(".").reduce((at: any, key) => at?.[key], settings);
    if ((Array.isArray(value) ? "array" : typeof value) !== type) {
      throw new StackError(`${file}: ${path} has to be there, and of the type ${type}.`);
    }
  }
  const { functions, ...others } = settings as Config;
  return { ...others, functions: functions ?? {} };
}

const SETTINGS = [
  ["api.port", "number"],
  ["api.schemas", "array"],
  ["api.extra_search_path", "array"],
  ["api.max_rows", "number"],
  ["db.port", "number"],
  ["db.major_version", "number"],
  ["db.migrations.enabled", "boolean"],
  ["db.seed.enabled", "boolean"],
  ["db.seed.sql_paths", "array"],
  ["auth.site_url", "string"],
  ["auth.jwt_expiry", "number"],
  ["auth.enable_signup", "boolean"],
  ["auth.email.enable_confirmations", "boolean"],
] as const;
