import type { Clock } from "./clock.ts";
import type { Answer, Call } from "./history.ts";
import type { RecordOptions } from "./record.ts";
import type { Door } from "../support/doors.ts";
import { microseconds } from "../support/clock.ts";

/** The databases whose locks are played with. */
export const NAMES = ["audio", "captions", "chapters", "layout"];
/** The names that servers give themselves. */
export const HOLDERS = ["worker-1", "worker-2", "worker-3"];
const CODES: Record<string, string> = {
  PT400: "INVALID_REQUEST",
  PT403: "FORBIDDEN",
  PT404: "VIDEO_NOT_FOUND",
  PT412: "LOCK_NOT_HELD",
  PT503: "LOCK_BUSY",
};
/** What a caller sees whose connection or statement was ended: nobody knows what became of the call. */
const UNKNOWN = new Set(["57014", "57P01", "CONNECTION_CLOSED"]);

/** An acquisition that callers know of, and use and misuse. */
export interface Acquisition {
  id: string;
  names: string[];
  isSet: boolean;
  holder: string;
  type: Call["type"];
  token?: number;
}

/** Who makes a call. */
export type Who = Pick<Call, "client" | "holder" | "type">;

/** What somebody wants. */
export type Intention = Pick<Call, "op" | "names" | "isSet" | "ask">;

/** Everything that the callers share. */
export class Recording {
  calls: Call[] = [];
  /** Acquisitions that callers know of, by lock; the newest last. */
  pool = new Map<string, Acquisition[]>(NAMES.map((name) => [name, []]));
  /** The callers' sessions, by their process ids. */
  backends: number[] = [];
  http: Door | undefined;
  until = 0;
  constructor(
    readonly clock: Clock,
    readonly video: string,
    readonly tenants: [string, string],
    readonly schema: string,
    readonly writes: string,
    readonly focus: RecordOptions["focus"],
  ) {}

  /** Sends a call and notes what came of it. */
  async call(
    who: Who,
    intention: Intention,
    send: (call: Call) => Promise<Answer>,
  ): Promise<Call> {
    const call: Call = {
      n: this.calls.length,
      ...who,
      video: this.video,
      ...intention,
      called: this.clock.now(),
      returned: null,
      answer: null,
    };
    this.calls.push(call);
    try {
      call.answer = await send(call);
      call.returned = this.clock.now();
    } catch (error) {
      const { code = "" } = error as { code?: string };
      if (!UNKNOWN.has(code)) {
        call.returned = this.clock.now();
        call.answer = CODES[code] ? { code: CODES[code] } : { sqlstate: `${code} ${error}` };
        if (code === "55P03") call.answer = { reason: "busy" };
      }
    }
    return call;
  }

  remember(acquisition: Acquisition) {
    for (const name of acquisition.names) {
      const pool = this.pool.get(name)!.filter(({ id }) => id !== acquisition.id);
      this.pool.set(name, [...pool.slice(-11), acquisition]);
    }
  }
}

const TIMES = new Set(
  "locked_at last_activity_at expires_at released_at ended_at server_time".split(" "),
);

/**
 * Turns the times of an answer into numbers.
 *
 * @param json The answer, or a part of it.
 * @param name The part's name.
 * @returns The same with times in microseconds since 1970.
 */
export function inNumbers(json: unknown, name = ""): unknown {
  if (typeof json === "string" && TIMES.has(name)) return microseconds(json);
  if (Array.isArray(json)) return json.map((one) => inNumbers(one));
  if (json === null || typeof json !== "object") return json;
  return Object.fromEntries(Object.entries(json).map(([key, one]) => [key, inNumbers(one, key)]));
}
