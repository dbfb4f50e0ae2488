import type { Door } from "../../support/doors.ts";
import { pause } from "../pause.ts";
import { type Random, random } from "../random.ts";
import type { Recording } from "../recording.ts";
import type { World } from "../record.ts";
import type { Arena } from "./arena.ts";
import type { Fault } from "./fault.ts";
import type { Library } from "./library.ts";
import { PASSWORD } from "./server.ts";
import { stubbornSession } from "./stubborn_session.ts";

/**
 * Where callers meet the given faults.
 *
 * @param arena The stack.
 * @param faults Which; several come side by side.
 * @param library The clients of the library.
 * @param seed For the faults' draws.
 * @param strikes Counted up, by fault.
 * @returns The world for `record()`.
 */
export function worldOf(
  arena: Arena,
  faults: readonly Fault[],
  library: Library,
  seed: number,
  strikes: Record<string, number>,
): World {
  let sessions = 0;
  const url = (port: number) =>
    `postgresql://supabase_admin:${PASSWORD}@127.0.0.1:${port}/postgres`;
  return {
    session(name, claims) {
      // every second server comes through PgBouncer, and so has a server's connection only for a transaction
      const isPooled = claims?.role === "service_role" && arena.bouncer !== undefined &&
        sessions++ % 2 === 0;
      return stubbornSession({
        url: url(isPooled ? arena.bouncer!.port : arena.route.port),
        claims,
        isPooled,
        name,
      });
    },
    http: httpDoor(arena),
    async strike(recording, callers) {
      let isOver = false;
      callers.catch(() => {}).then(() => isOver = true);
      recording.hasSnapshots = faults.some(({ name }) => name === "isolation");
      const draw = random(seed);
      const one = async (fault: Fault) => {
        await pause(200 + draw.fraction() * 400);
        // the last one has to be over when callers stop
        while (Date.now() < recording.until - 1_500) {
          await fault.strike(arena, recording, draw);
          strikes[fault.name] = (strikes[fault.name] ?? 0) + 1;
          if (fault.once) break;
          await pause(draw.fraction() * 500);
        }
      };
      await Promise.all([
        ...faults.map((fault) => persist(() => one(fault), recording.until)),
        watch(arena, recording, draw, () => isOver),
      ]);
      await arena.settle();
      // whatever a fault could not take back
      await persist(async () => {
        await arena.primary.ask("alter system reset all");
        await arena.primary.ask("select pg_reload_conf()");
      }, recording.until);
    },
    async settle(recording) {
      await arena.settle();
      await finishPrepared(arena, random(seed), "-1h");
      await lookAtBackends(arena, recording);
    },
    library: (recording) =>
      askLibrary(arena, library, recording, seed, faults.some(({ name }) => name === "network")),
  };
}

/** Lets the clients of the library call, and takes down what they did. */
async function askLibrary(
  arena: Arena,
  library: Library,
  recording: Recording,
  seed: number,
  hasTrouble: boolean,
) {
  const machine = (performance.timeOrigin + performance.now()) * 1000;
  const report = await library.work({
    url: arena.url,
    key: arena.secretKey,
    video: recording.video,
    until: recording.until,
    seed,
    offset: recording.clock.now() - machine,
    hasTrouble,
  });
  return {
    calls: report.calls.map((call) => ({
      ...call,
      called: call.called - PROCESS_CLOCK_ERROR,
      returned: call.returned && call.returned + PROCESS_CLOCK_ERROR,
    })),
    beliefs: report.beliefs.map((one) => ({ ...one, until: one.until - PROCESS_CLOCK_ERROR })),
  };
}

/** By how much the clocks of two processes may differ, in microseconds: each knows its origin to a millisecond. */
const PROCESS_CLOCK_ERROR = 3_000;

/** Sees which backends have gone, and ends prepared transactions that nobody ends. */
async function watch(
  arena: Arena,
  recording: Recording,
  draw: Random,
  isOver: () => boolean,
) {
  while (!isOver()) {
    await pause(250);
    await finishPrepared(arena, draw, "300ms").catch(() => {});
    await lookAtBackends(arena, recording).catch(() => {});
  }
}

async function lookAtBackends({ primary }: Arena, recording: Recording) {
  const rows = await primary.ask<{ pid: number }>("select pid from pg_stat_activity");
  recording.settle(new Set(rows.map(({ pid }) => pid)));
}

/** Ends prepared transactions that are at least so old, one way or the other: whoever prepared them may be gone. */
async function finishPrepared({ primary }: Arena, draw: Random, age: string) {
  const left = await primary.ask<{ gid: string }>(
    `select gid from pg_prepared_xacts where clock_timestamp() - prepared > interval '${age}'`,
  );
  for (const { gid } of left) {
    // its coordinator may be faster
    await primary.ask(`${draw.one(["commit", "rollback"])} prepared '${gid}'`).catch(() => {});
  }
}

/** A fault that needs the database may find that another one has taken it away, and begins again. */
async function persist(work: () => Promise<void>, until: number) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() > until + 10_000) throw error;
      if (Deno.env.has("FAULTS_SAY")) console.log(error);
      await pause(100);
    }
  }
}

/** The functions, by plain requests; `advance_server_version` is an RPC. */
function httpDoor({ url, secretKey }: Arena): Door {
  return async (_, name, fields, signal) => {
    const path = name === "advance_server_version"
      ? `rest/v1/rpc/${name}`
      : `functions/v1/lock-${name.split("_")[0]}`;
    const response = await fetch(`${url}/${path}`, {
      method: "POST",
      headers: { apikey: secretKey, "content-type": "application/json" },
      body: JSON.stringify(fields),
      ...(signal ? { signal } : {}),
    }).catch((error) => {
      throw Object.assign(error, { code: "NO_ANSWER" });
    });
    const text = await response.text().catch(() => {
      throw Object.assign(new Error("cut off"), { code: "NO_ANSWER" });
    });
    const body = text === "" ? {} : JSON.parse(text);
    if (response.ok) return typeof body === "number" ? { version: body } : body;
    const code = CODES[body.code] ?? body.code;
    // not there just now, or a function's process that has ended: nobody knows what became of the call
    if (response.status === 503 && code !== "LOCK_BUSY" || response.status === 504) {
      throw Object.assign(new Error(text), { code: "NO_ANSWER" });
    }
    if (response.status >= 500 && code !== "LOCK_BUSY") {
      // the Data API passes PostgreSQL's own words on, where the functions would say DATABASE_UNAVAILABLE
      const isRpc = name === "advance_server_version" && body.code;
      throw Object.assign(new Error(text), { code: isRpc ? body.code : `HTTP ${response.status}` });
    }
    return { code };
  };
}

const CODES: Record<string, string> = {
  PT400: "INVALID_REQUEST",
  PT404: "VIDEO_NOT_FOUND",
  PT412: "LOCK_NOT_HELD",
  PT503: "LOCK_BUSY",
  "55P03": "BUSY",
};
