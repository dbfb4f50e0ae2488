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

function startWorker(name: string, videos: string[], stopAt = ""): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    // it need not look for packages to install: many that start together would wait for each other
    args: [
      ...["run", "-A", "--node-modules-dir=manual", `${import.meta.dirname}/main.ts`],
      ...[name, table, String(CAPTIONS), ...videos],
    ],
    env: { SUPABASE_URL: url, SUPABASE_SECRET_KEY: secretKey, TTL_SECONDS: "3", STOP_AT: stopAt },
    stdout: "piped",
  }).spawn();
}

/** Starts a worker and strikes it down at a step. Gives what lets it go on, where it can. */
async function strike(
  signal: "SIGKILL" | "SIGSTOP",
  step: string,
  video: string,
): Promise<() => Promise<void>> {
  const worker = startWorker("worker-1", [video], step);
  const reader = worker.stdout.getReader();
  await reader.read(); // it is at that step
  worker.kill(signal);
  return async () => {
    if (signal === "SIGSTOP") {
      worker.kill("SIGCONT"); // it wakes up in the middle of it, and believes for a moment
      assertEquals((await worker.status).success, true, "it looks again, and finds all done");
    } else await worker.status;
    await reader.cancel();
  };
}

Deno.test("a worker that is killed or stalled at any step loses nothing and writes nothing twice", async () => {
  await makeTable();
  await using tenant = await newTenant();
  const cases = (["SIGKILL", "SIGSTOP"] as const).flatMap((signal) =>
    STEPS.map((step) => ({ signal, step }))
  );
  const videos = await Promise.all(cases.map(() => tenant.addVideo()));
  const goOn = await Promise.all(
    cases.map(({ signal, step }, i) => strike(signal, step, videos[i]!)),
  );
  assertEquals((await startWorker("worker-2", videos).output()).success, true);
  for (const one of goOn) await one();
  for (const [i, { signal, step }] of cases.entries()) {
    const rows = await sql.unsafe(
      `select number from public.${table} where video_id = $1 order by number`,
      [videos[i]!],
    );
    const written = rows.map(({ number }) => number);
    assertEquals(written, [1, 2, 3], `${signal} at "${step}": each caption once`);
  }
});
