import type { Answer } from "./history.ts";
import { goOn } from "./go_on.ts";
import { fieldsOf, intend } from "./intend.ts";
import { pause } from "./pause.ts";
import type { Random } from "./random.ts";
import { HOLDERS, inNumbers, type Recording } from "./recording.ts";

/**
 * One caller over HTTP; now and then everything is sent twice.
 *
 * @param recording Takes its calls down.
 * @param client The caller's name.
 * @param draw Decides.
 */
export async function httpClient(recording: Recording, client: string, draw: Random) {
  while (Date.now() < recording.until) {
    const who = { client, holder: draw.one(HOLDERS), type: "server" as const };
    const intention = intend(recording, who, draw);
    if (intention.op === "write") continue;
    const fn = intention.op === "advance"
      ? "advance_server_version" as const
      : `${intention.op}_lock` as "acquire_lock" | "renew_lock" | "release_lock";
    const fields = fieldsOf(recording.video, who.holder, who.type, intention);
    const send = async () => {
      const answer = inNumbers(await recording.http!({}, fn, fields)) as Answer;
      return answer.code === "BUSY" ? { reason: "busy" } : answer;
    };
    // now and then twice at the same time, as a proxy may send it
    const twin = draw.chance(0.1)
      ? recording.call({ ...who, client: `${client} twin` }, intention, send)
      : null;
    const call = () => recording.call(who, intention, send);
    await goOn(recording, await call(), call, draw);
    await twin;
    await pause(draw.fraction() * 4);
  }
}
