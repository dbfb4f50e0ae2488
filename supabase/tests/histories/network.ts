import { pause } from "./pause.ts";
import type { Random } from "./random.ts";

/** What the network does to one call. */
export type Trouble =
  | "none"
  /** The request never arrives. */
  | "drop"
  /** The request is done, and its answer never arrives. */
  | "lose"
  /** The caller hangs up before the answer. */
  | "hang up"
  /** The answer takes its time, so that others overtake it. */
  | "late"
  /** The request takes its time on its way. */
  | "slow"
  /** The request arrives once more, later, when nobody waits for it. */
  | "repeat";

/** All but `none`. */
export const TROUBLES = [
  "drop",
  "lose",
  "hang up",
  "late",
  "slow",
  "repeat",
] as const satisfies Trouble[];

/**
 * Lets a call suffer what the network does.
 *
 * @param trouble What it does.
 * @param send Sends the request.
 * @param again Sends it once more, and notes what comes of that.
 * @param draw Decides on times.
 * @returns The answer.
 * @throws {Error} With the code `NOT_SENT` or `NO_ANSWER`, where none arrives.
 */
export async function suffer<T>(
  trouble: Trouble,
  send: (signal?: AbortSignal) => Promise<T>,
  again: () => Promise<unknown>,
  draw: Random,
): Promise<T> {
  const milliseconds = 20 + draw.fraction() ** 2 * 480;
  switch (trouble) {
    case "drop":
      await pause(5);
      throw Object.assign(new Error("it never arrived"), { code: "NOT_SENT" });
    case "lose":
      await send().catch(() => {});
      throw noAnswer();
    case "hang up": {
      const abort = new AbortController();
      setTimeout(() => abort.abort(), draw.fraction() * 25);
      return await send(abort.signal).catch(() => Promise.reject(noAnswer()));
    }
    case "late": {
      const answer = await send();
      await pause(milliseconds);
      return answer;
    }
    case "slow":
      await pause(milliseconds);
      return await send();
    case "repeat": {
      const answer = await send();
      pause(milliseconds).then(again).catch(() => {});
      return answer;
    }
    case "none":
      return await send();
  }
}

function noAnswer(): Error {
  return Object.assign(new Error("no answer arrived"), { code: "NO_ANSWER" });
}
