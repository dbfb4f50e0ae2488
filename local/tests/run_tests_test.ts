// `deno task test` as a developer sees it: the functions' logs are shown when a test fails, at the end, and not before.
import { assertEquals, assertFalse, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { temporaryFolder } from "./support/project.ts";

const PROJECT = join(import.meta.dirname!, "../..");

/** Runs one test file that calls a function fifteen times. */
async function runTest(last: string): Promise<{ code: number; text: string }> {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "calls_test.ts");
  await Deno.writeTextFile(
    file,
    `Deno.test("calls", async () => {
      for (let call = 0; call < 15; call++) {
        const response = await fetch(Deno.env.get("SUPABASE_URL") + "/functions/v1/lock-renew", {
          method: "POST",
          headers: { "x-request-id": "call-" + call },
          body: "{}",
        });
        await response.body?.cancel();
      }
      ${last}
    });`,
  );
  const env = Object.fromEntries(
    Object.entries(Deno.env.toObject()).filter(([name]) => !name.startsWith("SUPABASE_")),
  );
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", join(PROJECT, "tools/run_tests.ts"), file],
    env: { ...env, NO_COLOR: "1" },
    clearEnv: true,
  }).output();
  return { code, text: [stdout, stderr].map((part) => new TextDecoder().decode(part)).join("") };
}

const LINE = /"function":"lock-renew"/g;

Deno.test("a run that passes shows no line of the functions' logs; one that fails, at its end, the last ones", async () => {
  const [passed, failed] = await Promise.all([
    runTest(""),
    runTest(`throw new Error("on purpose");`),
  ]);
  assertEquals(passed.code, 0, passed.text);
  assertFalse(LINE.test(passed.text), passed.text);
  assertStringIncludes(passed.text, "1 passed, 0 failed");

  assertEquals(failed.code, 1, failed.text);
  assertEquals(failed.text.match(LINE)?.length, 10, failed.text);
  assertStringIncludes(failed.text, "--- lock-renew, its last lines");
  assertStringIncludes(failed.text, "0 passed, 1 failed");
});
