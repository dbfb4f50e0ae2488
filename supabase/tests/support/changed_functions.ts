import { assertEquals } from "@std/assert";
import { sql } from "./stack.ts";

/** A change of one function: everywhere in its text, this becomes that. */
export type Change = readonly [fn: string, from: string, to: string];

/** What takes the usual case out of acquire_lock, renew_lock and release_lock: all calls go through acquire_in_turn and its siblings. */
export const WITHOUT_USUAL_CASE: readonly Change[] = [
  ["acquire_lock", "found and not v_seen.has_line", "false and not v_seen.has_line"],
  ["renew_lock", "found and v_seen.unlocked and", "false and v_seen.unlocked and"],
  ["release_lock", "v_old.lock_id = p_lock_id and", "false and"],
];

/**
 * Copies Holdfast's functions into a schema of their own and changes some, so that a test can call them beside the right
 * ones. They work on the same tables.
 *
 * @param changes What to change. Each text has to be there once.
 * @returns The schema's name; `await using` drops it.
 */
export async function changedFunctions(
  changes: readonly Change[],
): Promise<AsyncDisposable & { name: string }> {
  const name = `changed_${crypto.randomUUID().replaceAll("-", "")}`;
  const functions = await sql<{ fn: string; text: string }[]>`
    select p.proname as fn, pg_get_functiondef(p.oid) as text
    from pg_proc p join pg_language l on l.oid = p.prolang
    where p.pronamespace = 'holdfast'::regnamespace and l.lanname = 'plpgsql' and p.prorettype <> 'trigger'::regtype`;
  const calls = new RegExp(`\\bholdfast\\.(${functions.map(({ fn }) => fn).join("|")})\\(`, "g");
  await sql.unsafe(
    `create schema ${name}; grant usage on schema ${name} to authenticated, service_role`,
  );
  for (const { fn, text } of functions) {
    let changed = text;
    for (const [, from, to] of changes.filter(([changing]) => changing === fn)) {
      assertEquals(changed.split(from).length, 2, `"${from}" is in ${fn} once`);
      changed = changed.replace(from, () => to);
    }
    await sql.unsafe(changed.replaceAll(calls, `${name}.$1(`));
  }
  return {
    name,
    async [Symbol.asyncDispose]() {
      await sql.unsafe(`drop schema ${name} cascade`);
    },
  };
}
