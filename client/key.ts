import type { Key } from "./types.ts";

/**
 * Names of the databases that a key names.
 *
 * @param key One or several.
 * @returns A list.
 */
export function namesOf(key: Key): string[] {
  return "database_names" in key ? key.database_names : [key.database_name];
}
