// P12 when a waiter dies: its process is killed, so that it cannot give its place up.
import { assert, assertEquals } from "@std/assert";
import { until } from "../support/race.ts";
import { acquire, release, secretKey, sql, url } from "../support/stack.ts";
import { newTenant } from "../support/tenant.ts";

const WAITER = `
  const [url, apikey, body] = Deno.args;
  for (;;) {
    const answer = await fetch(url, { method: "POST", headers: { apikey, "content-type": "application/json" }, body });
    const { retry_after_ms } = await answer.json();
    await new Promise((resolve) => setTimeout(resolve, retry_after_ms));
  }`;

Deno.test("P12 the head of the line is killed: the next one has the lock within the rest of its place and one poll", async () => {
  await using tenant = await newTenant();
  const layout = { video_id: tenant.video, database_name: "layout" };
  const { lock } = await acquire(tenant.server, { ...layout, lock_holder_user_id: "worker-1" });
  const script = await Deno.makeTempFile({ suffix: ".js" });
  await Deno.writeTextFile(script, WAITER);
  const dying = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--no-config",
      script,
      `${url}/functions/v1/lock-acquire`,
      secretKey,
      JSON.stringify({
        ...layout,
        lock_holder_user_id: "worker-2",
        lock_id: crypto.randomUUID(),
        queue_seconds: 2,
      }),
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    const places = () =>
      sql<{ holder: string; kept_until: Date }[]>`
        select lock_holder_user_id as holder, kept_until from holdfast.place
        where video_id = ${tenant.video} order by queued_at`;
    await until(async () => (await places()).length === 1);
    const next = {
      ...layout,
      lock_holder_user_id: "worker-3",
      lock_id: crypto.randomUUID(),
      queue_seconds: 30,
    };
    let answer = await acquire(tenant.server, next);
    assertEquals(answer.queue, { position: 2, length: 2 });
    dying.kill("SIGKILL");
    await dying.status;
    const [head] = await places();
    assertEquals(head!.holder, "worker-2");
    await release(tenant.server, { ...layout, lock_id: lock!.lock_id });
    let poll = 0;
    while (!answer.acquired) {
      poll = answer.retry_after_ms!;
      await new Promise((resolve) => setTimeout(resolve, poll));
      answer = await acquire(tenant.server, next);
    }
    const granted = Date.parse(answer.lock!.locked_at);
    assert(granted >= head!.kept_until.getTime(), "it does not overtake a place that is kept");
    // half a second for the way there and back on a busy machine
    assert(
      granted <= head!.kept_until.getTime() + poll + 500,
      `${granted - head!.kept_until.getTime()} ms`,
    );
  } finally {
    try {
      dying.kill("SIGKILL");
    } catch {
      // it has ended
    }
    await Deno.remove(script);
  }
});
