import { leasesOf } from "./history.ts";
import type { Call } from "./history.ts";
import { pause } from "./pause.ts";
import type { Random } from "./random.ts";
import type { Acquisition, Recording } from "./recording.ts";

/**
 * Remembers a grant, so that it is renewed, released and used, also by those who should not; and stays in the line, mostly.
 *
 * @param again Sends the same acquire again.
 */
export async function goOn(
  recording: Recording,
  call: Call,
  again: () => Promise<Call>,
  draw: Random,
): Promise<Acquisition | undefined> {
  const { op, ask, names, isSet, holder, type } = call;
  if (op !== "acquire") return;
  const acquisition = { id: ask.id!, names, isSet, holder, type };
  let isInLine = false;
  for (let tries = 0, { answer } = call;; { answer } = await again()) {
    const token = leasesOf(answer)[0]?.fencing_token;
    isInLine ||= (answer?.queue?.position ?? null) !== null;
    if (token || isInLine || !answer) {
      recording.remember({ ...acquisition, ...(token ? { token } : {}) });
    }
    if (token) return { ...acquisition, token };
    if (!isInLine || answer?.reason === "ended" || Date.now() > recording.until) return;
    // most who have waited long enough say so; some die
    if (tries++ > 20) return acquisition;
    if (draw.chance(0.003)) return;
    await pause(draw.fraction() * 50);
  }
}
