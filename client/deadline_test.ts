import { assertEquals, assertGreater } from "@std/assert";
import { isSoak, runs } from "../supabase/tests/support/soak.ts";
import { secretKey, sql, url } from "../supabase/tests/support/stack.ts";
import { newTenant } from "../supabase/tests/support/tenant.ts";
import type { Report } from "./support/deadline_worker.ts";

const PROCESSES = 3;
const VIDEOS = runs(20, 30);
/** How long it goes on; one round at least. */
const SECONDS = runs(0, 240);

/** Keeps the machine's processors busy: by processes, as a worker in an endless loop outlives its `terminate()`. */
function burn(): Disposable {
  const burners = Array.from(
    { length: navigator.hardwareConcurrency },
    () => new Deno.Command("sh", { args: ["-c", "while :; do :; done"] }).spawn(),
  );
  return { [Symbol.dispose]: () => burners.forEach((burner) => burner.kill("SIGKILL")) };
}

/** Stops and continues a process by chance while it runs. */
async function stopByChance(child: Deno.ChildProcess, isOver: () => boolean): Promise<void> {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  while (!isOver()) {
    await pause(Math.random() * 900);
    if (isOver()) return;
    child.kill("SIGSTOP");
    await pause(Math.random() * 1200);
    child.kill("SIGCONT");
  }
}

Deno.test("under load and with stopped processes a lease is over here before it is over in the database, or the guard refuses", async () => {
  await using tenant = await newTenant();
  const table = `late_${crypto.randomUUID().slice(0, 8)}`;
  await sql.unsafe(`
    create table public.${table} (video_id uuid not null, line text not null);
    grant insert on public.${table} to service_role;
    select holdfast.guard('public.${table}', database => 'layout');
    notify pgrst, 'reload schema'`);
  const reports: Report[] = [];
  {
    using _ = burn();
    await Promise.all(Array.from({ length: PROCESSES }, async (_, i) => {
      const videos = await Promise.all(Array.from({ length: VIDEOS }, () => tenant.addVideo()));
      const child = new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-A",
          "--node-modules-dir=manual",
          `${import.meta.dirname}/support/deadline_worker.ts`,
          String(SECONDS),
          table,
          ...videos,
        ],
        env: { SUPABASE_URL: url, SUPABASE_SECRET_KEY: secretKey },
        stdout: "piped",
      }).spawn();
      let isOver = false;
      const stops = i === 0 ? Promise.resolve() : stopByChance(child, () => isOver);
      const { stdout } = await child.output();
      isOver = true;
      await stops.catch(() => {}); // it has ended meanwhile
      reports.push(
        ...new TextDecoder().decode(stdout).trim().split("\n").map((line) => JSON.parse(line)),
      );
    }));
  }
  await sql.unsafe(`select holdfast.unguard('public.${table}'); drop table public.${table}`);
  assertGreater(reports.length, PROCESSES * VIDEOS - 1);
  const late = reports.filter(({ abortedAt, expiresAt }) => abortedAt >= expiresAt);
  assertEquals(late.filter(({ ran }) => ran), [], "reported late, though the process ran");
  assertEquals(
    reports.filter(({ write }) => write !== "PT412"),
    [],
    "the guard refuses what is late",
  );
  assertGreater(reports.length - late.length, 0);
  if (isSoak) {
    console.log(`${reports.length} leases, ${late.length} of them while the process was stopped`);
  }
});
