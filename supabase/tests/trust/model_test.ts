// Random lives of locks against a readable model (support/lock_model.ts): every field of every answer, every row, the line
// and the history have to agree, by SQL, over HTTP, and with the functions' usual case taken out, so that their two paths are
// one. A failure prints a seed and a path; FAST_CHECK='{"seed":…,"path":"…"}' in the environment repeats it.
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type Door, newestHttpDoor, sqlDoor } from "../support/doors.ts";
import { step } from "../support/lock_lives.ts";
import { LockWorld } from "../support/lock_world.ts";
import { isSoak, runs } from "../support/soak.ts";
import { changedFunctions, WITHOUT_USUAL_CASE } from "../support/changed_functions.ts";

const replay = JSON.parse(Deno.env.get("FAST_CHECK") ?? "{}");

/** What so many lives cannot miss. */
const USUAL = [
  "granted",
  "granted again",
  "granted set",
  "held",
  "held in line",
  "ended cancelled",
  "renewed",
  "renew cancelled",
  "renew not_held",
  "released",
  "released set",
  "release expired",
  "release cancelled",
  "release not_held",
  "release held_by_another",
  "VIDEO_NOT_FOUND",
  "INVALID_REQUEST",
  "FORBIDDEN",
  "LOCK_NOT_HELD",
  ...(isSoak
    ? [
      "ended taken_over",
      "ended expired",
      "renew expired",
      "ended force_released",
      "ended released",
      "renew taken_over",
      "renew force_released",
      "renew released",
      "release force_released",
      "release taken_over",
      "queued in line",
      "queued",
      "renewed set",
      "granted take-over",
      "version",
    ]
    : []),
];

async function live(numRuns: number, door: Door): Promise<Map<string, number>> {
  const kinds = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 50, size: "max" }),
      async (steps) => {
        await using world = await LockWorld.create(door, kinds);
        for (const one of steps) await world.take(one);
      },
    ),
    { numRuns, endOnFailure: false, ...replay },
  );
  return kinds;
}

Deno.test("random lives of locks agree with the model, by SQL", async () => {
  await using stack = new AsyncDisposableStack();
  const kinds = await live(runs(80, 10_000), sqlDoor(stack));
  if (!replay.seed) assertEquals(USUAL.filter((kind) => !kinds.has(kind)), []);
});

Deno.test("random lives of locks agree with the model without the functions' usual case", async () => {
  await using stack = new AsyncDisposableStack();
  const schema = await changedFunctions(WITHOUT_USUAL_CASE);
  stack.use(schema);
  assert((await live(runs(25, 5_000), sqlDoor(stack, schema.name))).has("granted"));
});

Deno.test("random lives of locks agree with the model, over HTTP", async () => {
  const kinds = await live(runs(4, 300), await newestHttpDoor());
  assert(kinds.has("granted"));
});
