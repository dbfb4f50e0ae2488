// Records what many callers do to a few locks at the same time, and lets checkers decide. The flags of a long run, in the
// environment: HISTORY_SECONDS, HISTORY_SEED, HISTORY_CLIENTS.
import { assert, assertEquals } from "@std/assert";
import { check } from "./checks.ts";
import { powerOf } from "./power.ts";
import { record, type RecordOptions } from "./record.ts";
import { save } from "./save.ts";

const flag = (name: string, otherwise: number) => Number(Deno.env.get(name) ?? otherwise);
const seconds = flag("HISTORY_SECONDS", 5);
const firstSeed = flag("HISTORY_SEED", Date.now() % 1_000_000);
const sqlClients = flag("HISTORY_CLIENTS", 7);
/** A search through a short history is quick; and each piece may press elsewhere. */
const PIECE_SECONDS = Math.min(8, seconds / 3);
const FOCUSES: RecordOptions["focus"][] = [undefined, "usual case", "line"];

Deno.test("recorded histories of many callers hold every promise", async () => {
  const power = { calls: 0, overlapping: 0, open: 0, resolved: 0 };
  for (let piece = 0; piece * PIECE_SECONDS < seconds; piece++) {
    const seed = firstSeed + piece;
    const focus = FOCUSES[piece % FOCUSES.length];
    const history = await record({ seconds: PIECE_SECONDS, seed, focus, sqlClients });
    const violations = check(history);
    const saved = violations.length > 0 ? await save(history, violations) : "";
    assertEquals(violations.slice(0, 10), [], `seed ${seed}, focus ${focus} ${saved}`);
    const one = powerOf(history);
    for (const key of Object.keys(one) as (keyof typeof one)[]) power[key] += one[key];
  }
  assert(
    power.overlapping > power.calls / 4,
    `too quiet to show anything: ${JSON.stringify(power)}`,
  );
  if (Deno.env.has("HISTORY_SECONDS")) console.log(`seed ${firstSeed}: ${JSON.stringify(power)}`);
});
