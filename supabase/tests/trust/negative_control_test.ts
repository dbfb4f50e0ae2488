// The tests of mutual exclusion are worth what they notice. Here they meet a lock that is wrong in the way that the
// seed's system was: it reads the row, and then updates it.
import { assertRejects } from "@std/assert";
import { assertOneWins } from "../support/race.ts";
import { acquire, client, secretKey, sql } from "../support/stack.ts";
import { newTenant } from "../support/tenant.ts";

Deno.test("the barrier test passes acquire_lock and fails a lock that reads, then updates", async () => {
  await using tenant = await newTenant();
  const video_id = tenant.video;
  await acquire(tenant.server, {
    video_id,
    database_name: "layout",
    lock_holder_user_id: "first",
    ttl_seconds: 1,
  });
  await tenant.backdate(2);

  const name = `read_then_update_${crypto.randomUUID().replaceAll("-", "")}`;
  await sql.unsafe(`
    create function public.${name}(video_id uuid, holder text) returns boolean
    language plpgsql security definer set search_path = ''
    as $$
    begin
      if exists (
        select from public.video_database_state s
        where s.video_id = $1 and s.database_name = 'layout' and s.lock_expires_at > clock_timestamp()
      ) then
        return false;
      end if;
      perform pg_sleep(0.02); -- between the two there was a request's way to the caller and back
      update public.video_database_state s
      set lock_holder_user_id = holder, lock_expires_at = clock_timestamp() + interval '2 minutes'
      where s.video_id = $1 and s.database_name = 'layout';
      return true;
    end;
    $$;
    revoke all on function public.${name}(uuid, text) from public;
    grant execute on function public.${name}(uuid, text) to service_role;
    notify pgrst, 'reload schema'`);
  try {
    const server = client(secretKey);
    const attempt = async (holder: string) => {
      // the Data API may need a moment to see a new function
      for (let tries = 0;; tries++) {
        const { data, error } = await server.rpc(name, { video_id, holder });
        if (!error) return data as boolean;
        if (error.code !== "PGRST202" || tries > 100) throw new Error(error.message);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    await attempt("warm-up");
    await tenant.backdate(200);
    await assertRejects(
      () => assertOneWins(10, (i) => attempt(`process-${i}`)),
      Error,
      "exactly one of the callers wins",
    );
  } finally {
    await sql.unsafe(`drop function public.${name}`);
  }

  await tenant.backdate(200);
  await assertOneWins(10, async (i) => {
    const answer = await acquire(tenant.server, {
      video_id,
      database_name: "layout",
      lock_holder_user_id: `process-${i}`,
    });
    return answer.acquired === true;
  });
});
