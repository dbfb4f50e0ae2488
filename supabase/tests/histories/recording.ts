import type { Clock } from "./clock.ts";
import type { Answer, Call } from "./history.ts";
import type { Trouble } from "./network.ts";
import { pause } from "./pause.ts";
import type { Random } from "./random.ts";
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
/** The statement failed, and PostgreSQL undid its transaction: it did nothing. */
const UNDONE = new Set(["57014"]);
/** The same, where faults are let loose: serialization, a standby, a full disk, a server that starts or is full, no connection. */
const UNDONE_BY_FAULTS = new Set([
  ...["40001", "25006", "25P03", "25P04", "53100", "53200", "53300", "57P01", "57P03", "57P05"],
  ...["NOT_CONNECTED", "NOT_SENT", "ROLLED_BACK"],
]);
/** A connection or a prepared transaction was ended: nobody knows what became of the call. */
const UNKNOWN_BY_FAULTS = new Set(
  ["57P02", "42704", "55000", "08P01", "CONNECTION_CLOSED", "NO_ANSWER"],
);

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
  /** The callers' sessions, by their application names. */
  sessions: string[] = [];
  http: Door | undefined;
  /** Calls of which nobody knows, with the number of the backend that worked on them. */
  unsettled = new Map<Call, number>();
  /** What the network does to the next call over HTTP. */
  trouble: (draw: Random) => Trouble = () => "none";
  /** Transactions may see the locks as they were at their first statement. */
  hasSnapshots = false;
  until = 0;
  readonly clock: Clock;
  readonly video: string;
  readonly tenants: [string, string];
  readonly schema: string;
  readonly writes: string;
  readonly focus: RecordOptions["focus"];
  /** Whether faults are let loose: then calls and statements may fail for other reasons than the contract's. */
  readonly hasFaults: boolean;

  constructor(
    parts: Pick<
      Recording,
      "clock" | "video" | "tenants" | "schema" | "writes" | "focus" | "hasFaults"
    >,
  ) {
    this.clock = parts.clock;
    this.video = parts.video;
    this.tenants = parts.tenants;
    this.schema = parts.schema;
    this.writes = parts.writes;
    this.focus = parts.focus;
    this.hasFaults = parts.hasFaults;
  }

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
      const { code = "", backend } = error as { code?: string; backend?: number };
      if (this.hasFaults && UNKNOWN_BY_FAULTS.has(code)) {
        if (backend) this.unsettled.set(call, backend);
        return call;
      }
      call.returned = this.clock.now();
      call.answer = CODES[code]
        ? { code: CODES[code] }
        : code === "55P03"
        ? { reason: "busy" }
        : UNDONE.has(code) || this.hasFaults && UNDONE_BY_FAULTS.has(code)
        ? { reason: "undone" }
        : { sqlstate: `${code} ${error}` };
    }
    return call;
  }

  /** What goes on around the calls may fail where faults are let loose, and is tried again or left. */
  async attempt(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const { code = "" } = error as { code?: string };
      const isFault = UNDONE.has(code) || UNDONE_BY_FAULTS.has(code) || UNKNOWN_BY_FAULTS.has(code);
      if (!this.hasFaults || !isFault && code !== "55P03") throw error;
      await pause(20);
    }
  }

  /** Notes that nothing more can come of calls whose backend has gone. */
  settle(living: ReadonlySet<number>) {
    for (const [call, backend] of this.unsettled) {
      if (living.has(backend)) continue;
      call.settled = this.clock.now();
      this.unsettled.delete(call);
    }
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
