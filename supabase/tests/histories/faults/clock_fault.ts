import { join } from "node:path";
import { pause } from "../pause.ts";
import type { Arena } from "./arena.ts";
import type { Fault } from "./fault.ts";

const LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/** Whether libfaketime is installed (Debian: `apt-get install faketime`). */
export const hasFaketime: boolean = (() => {
  try {
    return Deno.statSync(LIBRARY).isFile;
  } catch {
    return false;
  }
})();

const fileOf = ({ primary }: Arena) => join(primary.directory, "..", "clock");

async function set(arena: Arena, seconds: number) {
  // renamed into place: PostgreSQL's processes read it at any moment
  await Deno.writeTextFile(`${fileOf(arena)}.new`, `${seconds >= 0 ? "+" : ""}${seconds}s\n`);
  await Deno.rename(`${fileOf(arena)}.new`, fileOf(arena));
}

/** The database's clock, and no other one, is set forward and back. */
export const CLOCK: Fault = {
  name: "clock",
  says: "the database's clock set forward and back by up to 5 s (libfaketime)",
  needs: "faketime",
  mixes: false,
  // Times of the database cannot be compared with those of callers, nor with each other. What is promised then is in
  // docs/operating/clocks.md: tokens keep growing, guarded writes of old holders are refused.
  waives: [
    "leases of a lock do not overlap (P1)",
    "the clock of an answer lies within its call (P3)",
    "tokens grow in the order of the grants (P4)",
    "no guarded write without its grant (P4)",
    "the lock history is what callers were told",
    "nobody is overtaken in the line (P12)",
    "each lock is linearizable",
    "the client library lets go in time",
  ],
  async prepare(arena) {
    await set(arena, 0);
    await arena.primary.stop();
    await arena.primary.start({}, {
      LD_PRELOAD: LIBRARY,
      FAKETIME_TIMESTAMP_FILE: fileOf(arena),
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      DONT_FAKE_MONOTONIC: "1",
    });
  },
  async strike(arena, _, draw) {
    const seconds = Math.round((draw.fraction() * 10 - 5) * 1000) / 1000;
    await set(arena, seconds);
    const [row] = await arena.primary.ask<{ now: number }>(
      "select extract(epoch from clock_timestamp())::float8 as now",
    );
    const moved = row!.now - Date.now() / 1000;
    if (Math.abs(moved - seconds) > 1) {
      throw new Error(`the clock moved by ${moved} s instead of ${seconds} s`);
    }
    await pause(200 + draw.fraction() * 1200);
  },
  async mend(arena) {
    await arena.primary.stop();
    await arena.primary.start({}, {});
  },
};
