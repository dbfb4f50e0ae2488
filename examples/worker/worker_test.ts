import { assertEquals } from "@std/assert";
import { afterAll, secretKey, sql, url } from "../../supabase/tests/support/stack.ts";
import { newTenant } from "../../supabase/tests/support/tenant.ts";

const CAPTIONS = 3;
const STEPS = [
  "granted",
  ...Array.from(
    { length: CAPTIONS },
    (_, i) => [`before caption ${i + 1}`, `after caption ${i + 1}`],
  )
    .flat(),
];

const table = `captions_${crypto.randomUUID().slice(0, 8)}`;

/** Without a primary key: a caption that is written twice is there twice. */
async function makeTable(): Promise<void> {
  await sql.unsafe(`
    create table public.${table} (video_id uuid not null, number integer not null);
    grant select, insert on public.${table} to service_role;
    select holdfast.guard('public.${table}', database => 'captions');
    notify pgrst, 'reload schema'`);
  afterAll(() =>
    sql.unsafe(`select holdfast.unguard('public.${table}'); drop table public.${table}`)
  );
}

function startWorker(name: string, video: string, stopAt = ""): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${import.meta.dirname}/main.ts`, name, table, String(CAPTIONS), video],
    env: { SUPABASE_URL: url, SUPABASE_SECRET_KEY: secretKey, TTL_SECONDS: "3", STOP_AT: stopAt },
    stdout: "piped",
  }).spawn();
}

/** Strikes a worker down at a step, lets another one finish, and sees what has been written. */
async function strike(signal: "SIGKILL" | "SIGSTOP", step: string): Promise<void> {
  await using tenant = await newTenant();
  const struck = startWorker("worker-1", tenant.video, step);
  const reader = struck.stdout.getReader();
  await reader.read(); // it is at that step
  struck.kill(signal);
  assertEquals((await startWorker("worker-2", tenant.video).output()).success, true);
  if (signal === "SIGSTOP") {
    struck.kill("SIGCONT"); // it wakes up in the middle of it, and believes for a moment
    assertEquals((await struck.status).success, true, "it looks again, and finds all done");
  } else await struck.status;
  await reader.cancel();
  const rows = await sql.unsafe(
    `select number from public.${table} where video_id = $1 order by number`,
    [tenant.video],
  );
  const written = rows.map(({ number }) => number);
  assertEquals(written, [1, 2, 3], `${signal} at "${step}": each caption once`);
}

Deno.test("a worker that is killed or stalled at any step loses nothing and writes nothing twice", async (t) => {
  await makeTable();
  for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
    await t.step(`${signal} at each of ${STEPS.length} steps`, async () => {
      await Promise.all(STEPS.map((step) => strike(signal, step)));
    });
  }
});
