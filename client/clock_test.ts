import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import type { SupabaseClient } from "@supabase/supabase-js";
import { backOff } from "./alarm.ts";
import { type Guardable, type Guarding, guardQuery } from "./guard.ts";
import { createLockClient, type Lease } from "./mod.ts";
import { ModelService } from "./support/model_service.ts";
import { virtualTime } from "./support/virtual_time.ts";
import { watchVideo } from "./watch.ts";

// What a client believes where clocks stand still, jump, or run on without it; under a virtual clock.

const KEY = { video_id: "00000000-0000-4000-8000-000000000101", database_name: "layout" };
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Holds a lease of eight seconds on a service that always answers, and gives what the request comes to. */
async function holding(callback: (lease: Lease) => Promise<string>): Promise<string> {
  using time = virtualTime(1);
  const service = new ModelService(() => ({ there: 20, back: 20 }));
  const locks = createLockClient(service.client("anna"), { holder: "anna" });
  const request = locks.request(KEY, { ttlSeconds: 8 }, callback)
    .catch((error) => error.cause.reason);
  await time.run(() => {});
  return await request;
}

Deno.test("a machine that slept while its monotonic clock stood still: in doubt, asked at once, and held again", async () => {
  const states: string[] = [];
  await holding(async (lease) => {
    await pause(1_000);
    states.push(lease.state);
    const { now } = Date; // of the virtual time, which puts the real one back
    Date.now = () => now() + 60_000;
    states.push(lease.state);
    await pause(100);
    states.push(lease.state);
    return "";
  });
  assertEquals(states, ["held", "in doubt", "held"]);
});

for (
  const [what, isOver] of Object.entries({
    "the signal": (lease: Lease) => lease.signal.aborted,
    "the state": (lease: Lease) => lease.state === "lost",
  })
) {
  Deno.test(`timers are late, and the lease is over: who looks at ${what} knows it at once`, async () => {
    let known = false;
    const outcome = await holding(async (lease) => {
      assertEquals(isOver(lease), false);
      const { now } = performance;
      performance.now = () => now() + 8_000;
      known = isOver(lease);
      performance.now = now;
      return await Promise.resolve("");
    });
    assertEquals([known, outcome], [true, "deadline"]);
  });
}

Deno.test("many who failed together come back apart: full jitter", () => {
  const pauses = Array.from({ length: 100 }, () => backOff(3, 5_000));
  assertGreater(new Set(pauses).size, 90);
  assertLess(Math.max(...pauses), 2_000.001);
  assertLess(Math.min(...pauses), 500);
});

/** A write that ends when its signal aborts; and what was set on it before it was sent. */
class HangingWrite implements Guardable {
  readonly headers: Record<string, string> = {};
  signal: AbortSignal | undefined;

  setHeader(name: string, value: string): void {
    this.headers[name] = value;
  }

  abortSignal(signal: AbortSignal): void {
    this.signal = signal;
  }

  // deno-lint-ignore no-explicit-any
  then(fulfilled: any, rejected: any): Promise<unknown> {
    return new Promise((_, reject) => {
      this.signal!.addEventListener("abort", () => reject(this.signal!.reason));
    }).then(fulfilled, rejected);
  }
}

Deno.test("a guarded write is given up with its lease, by its caller, or after 15 seconds; it counts as work", async () => {
  for (const how of ["lease", "caller", "time"] as const) {
    using time = virtualTime(1);
    const aborts = { lease: new AbortController(), caller: new AbortController() };
    let touched = 0;
    const guarding: Guarding = {
      lockId: "a",
      fencingToken: 7,
      signal: aborts.lease.signal,
      touch: () => touched++,
      wake: () => {},
    };
    const write = new HangingWrite();
    write.abortSignal(aborts.caller.signal);
    guardQuery(write, guarding);
    const begun = performance.now();
    let ended = 0;
    const end = Promise.resolve(write).catch((reason) => {
      ended = performance.now() - begun;
      return reason;
    });
    if (how !== "time") setTimeout(() => aborts[how].abort(how), 500);
    await time.run(() => {});
    const reason = await end as DOMException | string;
    assertEquals(write.headers, { "x-fencing-token": "7", "x-lock-id": "a" });
    assertEquals(touched, 1);
    if (how !== "time") assertEquals([reason, ended], [how, 500]);
    else assertEquals([(reason as DOMException).name, ended], ["TimeoutError", 15_000]);
    assert(write.signal?.aborted);
  }
});

/** Watches a video whose locks are what `answers` says by the number of the question, and how long each answer takes. */
async function watched(
  answers: (question: number) => [held: number, ms: number],
  { status, until }: { status: string; until: number },
): Promise<{ reported: string[]; asked: number[] }> {
  using time = virtualTime(1);
  const reported: string[] = [];
  const asked: number[] = [];
  const channel = {
    on: () => channel,
    subscribe: (
      report: (status: string) => void,
    ) => (setTimeout(() => report(status), 100), channel),
  };
  const supabase = { channel: () => channel, removeChannel: () => {} } as unknown as SupabaseClient;
  const begun = time.now();
  const query = async () => {
    const [held, ms] = answers(asked.push(time.now() - begun));
    await pause(ms);
    return { held: Array(held).fill({}), pending: [] };
  };
  const stop = watchVideo(supabase, KEY.video_id, query, ({ held }) => {
    reported.push(`${time.now() - begun}: ${held.length}`);
  });
  setTimeout(stop, until);
  await time.run(() => {});
  return { reported, asked };
}

Deno.test("watch asks every five seconds, every thirty beside Realtime, and reports what has changed", async () => {
  const changes = (question: number) => [question > 2 ? 1 : 0, 10] as [number, number];
  assertEquals(await watched(changes, { status: "CHANNEL_ERROR", until: 21_000 }), {
    reported: ["10: 0", "10030: 1"],
    asked: [0, 5_010, 10_020, 15_030, 20_040],
  });
  assertEquals(await watched(changes, { status: "SUBSCRIBED", until: 65_000 }), {
    reported: ["10: 0", "30120: 1"],
    asked: [0, 100, 30_110, 60_120],
  });
});

Deno.test("watch does not report an answer that is older than the last question", async () => {
  // the first answer comes when the second question, at the channel's word, has been answered
  const crossing = (question: number) => (question === 1 ? [0, 500] : [1, 10]) as [number, number];
  assertEquals((await watched(crossing, { status: "SUBSCRIBED", until: 1_000 })).reported, [
    "110: 1",
  ]);
});
