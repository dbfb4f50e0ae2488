import type { Answer } from "./history.ts";
import { goOn } from "./go_on.ts";
import { fieldsOf, intend } from "./intend.ts";
import { suffer } from "./network.ts";
import { pause } from "./pause.ts";
import type { Random } from "./random.ts";
import { HOLDERS, inNumbers, type Intention, type Recording, type Who } from "./recording.ts";

/**
 * One caller over HTTP; now and then everything is sent twice.
 *
 * @param recording Takes its calls down.
 * @param client The caller's name.
 * @param draw Decides.
 */
export async function httpClient(recording: Recording, client: string, draw: Random) {
  const late: Promise<unknown>[] = [];
  while (Date.now() < recording.until) {
    const who = { client, holder: draw.one(HOLDERS), type: "server" as const };
    const intention = intend(recording, who, draw);
    if (intention.op === "write") continue;
    const send = (signal?: AbortSignal) => byHttp(recording, who, intention, signal);
    const twin = () =>
      recording.call({ ...who, client: `${client} twin` }, intention, () => send());
    const call = () =>
      recording.call(who, intention, () =>
        suffer(recording.trouble(draw), send, () => {
          const again = twin();
          late.push(again);
          return again;
        }, draw));
    // now and then twice at the same time, as a proxy may send it
    const second = draw.chance(0.1) ? twin() : null;
    await goOn(recording, await call(), call, draw);
    await second;
    await pause(draw.fraction() * 4);
  }
  await Promise.all(late);
}

/** Makes a call over HTTP; where it says that the database is not there just now, nobody knows what became of it. */
async function byHttp(
  recording: Recording,
  { holder, type }: Who,
  intention: Intention,
  signal?: AbortSignal,
): Promise<Answer> {
  const fn = intention.op === "advance"
    ? "advance_server_version" as const
    : `${intention.op}_lock` as "acquire_lock" | "renew_lock" | "release_lock";
  const fields = fieldsOf(recording.video, holder, type, intention);
  const answer = inNumbers(await recording.http!({}, fn, fields, signal)) as Answer;
  return answer.code === "BUSY" ? { reason: "busy" } : answer;
}
