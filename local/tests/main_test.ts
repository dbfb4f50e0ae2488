import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isSoak } from "../../supabase/tests/support/soak.ts";
import { processesWith, run, runCurls, start } from "./support/command.ts";
import { temporaryFolder } from "./support/project.ts";

/** Whether something accepts connections at the address. */
async function answers(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  try {
    using _connection = await Deno.connect({ hostname, port: Number(port) });
    return true;
  } catch {
    return false;
  }
}

function value(text: string, name: string): string {
  return text.match(new RegExp(`^${name}="(.*)"$`, "m"))?.[1] ?? "";
}

Deno.test("--help lists every flag, and a wrong word is reported with exit code 2", async () => {
  const help = await run(["start", "--help"]);
  assertEquals(help.code, 0);
  for (const flag of ["--port", "--db-port", "--data", "--fresh", "--db-url", "--help"]) {
    assertStringIncludes(help.stdout, flag);
  }
  const wrongFlag = await run(["start", "--prot", "1"]);
  assertEquals(wrongFlag.code, 2);
  assertStringIncludes(wrongFlag.stderr, "--prot");
  const wrongPort = await run(["start", "--port", "http"]);
  assertEquals(wrongPort.code, 2);
  assertStringIncludes(wrongPort.stderr, "--port");
});

Deno.test("start prints a curl that acquires a lock and one that releases it, status the four values, stop ends it all", async () => {
  await using data = await temporaryFolder();
  const { stdout, process, end } = await start(data.path);

  const status = await run(["status", "--data", data.path]);
  assertEquals(status.code, 0);
  assertMatch(
    status.stdout,
    /^SUPABASE_URL="http:\/\/127\.0\.0\.1:\d+"\nSUPABASE_PUBLISHABLE_KEY="sb_publishable_[\w-]+"\nSUPABASE_SECRET_KEY="sb_secret_[\w-]+"\nSUPABASE_DB_URL="postgresql:\/\/postgres:postgres@127\.0\.0\.1:\d+\/postgres"\n$/,
  );

  const [acquired, released] = await runCurls(stdout);
  assertEquals([acquired.acquired, acquired.lock.lock_holder_user_id], [true, "worker-1"]);
  assertEquals([released.released, released.lock.lock_id], [true, acquired.lock.lock_id]);

  const second = await run(["start", "--data", data.path, "--port", "0", "--db-port", "0"]);
  assertEquals(second.code, 1);
  assertStringIncludes(second.stderr, "already");

  const stop = await run(["stop", "--data", data.path]);
  assertEquals(stop.code, 0);
  assertEquals((await process.status).code, 0);
  await end("SIGKILL").catch(() => {});
  assert(!await answers(value(status.stdout, "SUPABASE_URL")));
  assert(!await answers(value(status.stdout, "SUPABASE_DB_URL")));

  const none = await run(["status", "--data", data.path]);
  assertEquals([none.code, none.stdout], [1, ""]);
  assertMatch(none.stderr, /^No stack runs on .+\n$/);
});

for (const [signal, patience] of [["SIGINT", 0], ["SIGTERM", 0], ["SIGKILL", 5_000]] as const) {
  // what is done on SIGINT is done on SIGTERM
  if (signal === "SIGTERM" && !isSoak) continue;
  Deno.test(`${signal} to the process that started the stack leaves nothing of it`, async () => {
    await using data = await temporaryFolder();
    const { end } = await start(data.path);
    const url = value((await run(["status", "--data", data.path])).stdout, "SUPABASE_URL");
    const left = async () => [
      ...await processesWith(data.path),
      ...await processesWith(`SUPABASE_URL=${url}`),
    ];
    assert((await left()).length > 3);
    await end(signal);
    const deadline = Date.now() + patience;
    while ((await left()).length > 0 && Date.now() < deadline) await delay(50);
    assertEquals(await left(), []);
    assert(!await answers(url));
    assertEquals((await run(["status", "--data", data.path])).code, 1);
  });
}

Deno.test("a port that is taken is named, with the flag that helps", async () => {
  await using data = await temporaryFolder();
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = String(taken.addr.port);
  const gateway = await run(["start", "--data", data.path, "--port", port, "--db-port", "0"]);
  assertEquals(gateway.code, 1);
  assertMatch(gateway.stderr, new RegExp(`^Port ${port} .*--port`));
  const database = await run(["start", "--data", data.path, "--port", "0", "--db-port", port]);
  assertEquals(database.code, 1);
  assertMatch(database.stderr, new RegExp(`^Port ${port} .*--db-port`));
});

Deno.test({
  name: "root starts a checkout that only root can reach",
  ignore: Deno.uid() !== 0,
  async fn() {
    await using data = await temporaryFolder(); // a temporary folder has mode 700
    const checkout = join(data.path, "checkout");
    const original = join(import.meta.dirname!, "..", "..");
    await Deno.mkdir(checkout);
    for (const name of ["deno.json", "deno.lock", "local", "supabase", "node_modules"]) {
      const copied = async (how: string) =>
        (await new Deno.Command("cp", { args: [how, join(original, name), checkout] }).output())
          .success;
      // links, which take no time, or copies where the temporary folder is on another disk
      assert(await copied("-al") || await copied("-a"));
    }
    const { end } = await start(join(checkout, ".holdfast"), [], { checkout });
    assertEquals((await end("SIGTERM")).code, 0);
  },
});
