// A dump does not revoke what the target's default privileges grant. What puts that right is tested here in one
// transaction that is rolled back.
import { assertEquals } from "@std/assert";
import { openSession } from "../support/race.ts";

Deno.test("repair_privileges() finds nothing wrong in a database as the migrations made it", async () => {
  await using session = openSession();
  assertEquals([...await session.run`select * from holdfast.repair_privileges()`], []);
});

Deno.test("repair_privileges() puts right what default privileges granted and what is missing, and reports each", async () => {
  await using session = openSession();
  const { run } = session;
  const repair = async () =>
    (await run<{ line: string }[]>`
      select line from holdfast.repair_privileges() line order by line collate "C"
    `).map(({ line }) => line);
  await run`begin`;
  await run`grant update on public.video_database_state to service_role`;
  await run`grant insert (fencing_token) on public.video_database_state to service_role`;
  await run`grant truncate on public.video_database_lock_history to anon`;
  await run`grant execute on function holdfast.raise_error(text, text) to public`;
  await run`grant create on schema holdfast to authenticated`;
  await run`revoke select on public.held_locks from authenticated`;
  await run`revoke execute on function public.prune_lock_history(interval, integer) from service_role`;
  assertEquals(await repair(), [
    "anon had: TRUNCATE on public.video_database_lock_history",
    "authenticated had: CREATE on holdfast",
    "authenticated lacked: SELECT on public.held_locks",
    "public had: EXECUTE on holdfast.raise_error",
    "service_role had: INSERT on public.video_database_state.fencing_token",
    "service_role had: UPDATE on public.video_database_state",
    "service_role lacked: EXECUTE on public.prune_lock_history",
  ]);
  assertEquals(await repair(), [], "all is right now");
  await run`rollback`;
});
