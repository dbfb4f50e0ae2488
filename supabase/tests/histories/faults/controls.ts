import { BROKEN } from "../broken.ts";
import { findOut } from "../find_out.ts";
import type { Arena } from "./arena.ts";
import { FAULTS } from "./faults.ts";
import type { Figures } from "./figures.ts";
import type { Library } from "./library.ts";
import { newFigures, runPiece } from "./pieces.ts";

const CARELESS = "a commit that was acknowledged is lost in a crash (synchronous_commit = off)";

/**
 * Callers at each lock that is wrong on purpose, and at a database that is careless.
 *
 * @param arena Where.
 * @param library The clients of the library.
 * @param figures Takes down after how many seconds each was found out.
 * @returns How many were not.
 */
export async function runControls(
  arena: Arena,
  library: Library,
  figures: Figures,
): Promise<number> {
  const note = (what: string, seconds: number | null) => {
    figures.controls[what] = seconds;
    console.log(`control: ${what}: ${seconds === null ? "NOT FOUND" : `found after ${seconds} s`}`);
  };
  for (const broken of BROKEN) {
    const { found, seconds } = await findOut(broken);
    note(broken.what, found.length > 0 ? seconds : null);
  }
  const kill = FAULTS.filter(({ name }) => name === "kill");
  await arena.primary.stop();
  await arena.primary.start({ synchronous_commit: "off" }, {});
  let found = 0;
  let seconds = 0;
  for (let n = 0; found === 0 && seconds < 60; n++) {
    seconds += 6;
    found = await runPiece(arena, library, kill, {
      seconds: 6,
      seed: n,
      n,
      sqlClients: 7,
      figures: newFigures(n),
    });
  }
  note(CARELESS, found > 0 ? seconds : null);
  await arena.primary.stop();
  await arena.primary.start({}, {});
  return Object.values(figures.controls).filter((one) => one === null).length;
}
