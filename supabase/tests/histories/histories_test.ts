// Records what many callers do to a few locks at the same time, and lets checkers decide. The flags of a long run, in the
// environment: HISTORY_SECONDS, HISTORY_SEED, HISTORY_CLIENTS.
import { assertEquals } from "@std/assert";
import { check } from "./checks.ts";
import { record } from "./record.ts";
import { save } from "./save.ts";

const flag = (name: string, otherwise: number) => Number(Deno.env.get(name) ?? otherwise);
const seed = flag("HISTORY_SEED", Date.now() % 1_000_000);

Deno.test("a recorded history of many callers holds all promises", async () => {
  const history = await record({
    seconds: flag("HISTORY_SECONDS", 5),
    seed,
    sqlClients: flag("HISTORY_CLIENTS", 7),
  });
  const violations = check(history);
  const saved = violations.length > 0 ? await save(history, violations) : "";
  assertEquals(violations.slice(0, 10), [], `seed ${seed}, ${history.calls.length} calls ${saved}`);
  if (Deno.env.has("HISTORY_SECONDS")) console.log(`seed ${seed}: ${history.calls.length} calls`);
});
