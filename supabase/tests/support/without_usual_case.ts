import { assertEquals } from "@std/assert";
import { sql } from "./stack.ts";

/** Where each function decides that a call is the usual one, and what makes it decide otherwise. */
const USUAL_CASE = {
  acquire_lock: ["found and not v_seen.has_line", "false and not v_seen.has_line"],
  renew_lock: ["if not found or (", "if true or ("],
  release_lock: ["v_old.lock_id = p_lock_id and", "false and"],
} as const;

/**
 * Copies acquire_lock, renew_lock and release_lock into a schema of their own, without their usual case: all calls then go
 * through acquire_in_turn and its siblings.
 *
 * @returns The schema's name; `await using` drops it.
 */
export async function withoutUsualCase(): Promise<AsyncDisposable & { name: string }> {
  const name = `in_turn_${crypto.randomUUID().replaceAll("-", "")}`;
  await sql.unsafe(
    `create schema ${name}; grant usage on schema ${name} to authenticated, service_role`,
  );
  for (const [fn, [from, to]] of Object.entries(USUAL_CASE)) {
    const [row] = await sql<{ text: string }[]>`
      select pg_get_functiondef(p.oid) as text from pg_proc p
      where p.pronamespace = 'holdfast'::regnamespace and p.proname = ${fn}`;
    const pieces = row!.text.split(from);
    assertEquals(pieces.length, 2, `the usual case of ${fn} is where it was`);
    await sql.unsafe(
      pieces.join(to).replace(`FUNCTION holdfast.${fn}(`, `FUNCTION ${name}.${fn}(`),
    );
  }
  return {
    name,
    async [Symbol.asyncDispose]() {
      await sql.unsafe(`drop schema ${name} cascade`);
    },
  };
}
