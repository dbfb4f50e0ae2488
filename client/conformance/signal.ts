import { domException, rejects, same } from "./expect.ts";
import { type Case, hold } from "./surroundings.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const never = () => {
  throw new Error("the callback must not run");
};
const counts = async (
  { locks, a }: {
    locks: { query(): Promise<{ held?: { name?: string }[]; pending?: { name?: string }[] }> };
    a: string;
  },
) => {
  const { held = [], pending = [] } = await locks.query();
  return [held, pending].map((list) => list.filter(({ name }) => name === a).length);
};

/** The option `signal`: before, while and after the grant. */
export const SIGNAL: Case[] = [
  {
    name: "a signal that has aborted rejects with an AbortError, and no callback runs",
    async run({ locks, a }) {
      const signal = AbortSignal.abort();
      await domException(locks.request(a, { signal }, never), "AbortError", "request");
      await rejects(locks.request(a, { signal }, never), signal.reason, "again");
    },
  },
  {
    name: "a signal that has aborted for a reason rejects with that reason, the very value",
    async run({ locks, a }) {
      const reason = { any: "value" };
      const request = locks.request(a, { signal: AbortSignal.abort(reason) }, never);
      await rejects(request, reason, "request");
    },
  },
  {
    name: "who waits stops waiting when the signal aborts, and the holder goes on",
    async run({ locks, a }) {
      const held = hold(locks, a);
      const controller = new AbortController();
      const request = locks.request(a, { signal: controller.signal }, never);
      same(await counts({ locks, a }), [1, 1], "held and pending");
      const rejected = domException(request, "AbortError", "request");
      controller.abort();
      await rejected;
      same(await counts({ locks, a }), [1, 0], "held and pending, afterwards");
      held.release("value");
      same(await held.request, "value", "the holder's value");
    },
  },
  {
    name: "the signal may also abort some time later",
    async run({ locks, a }) {
      const held = hold(locks, a);
      await held.granted;
      const controller = new AbortController();
      const reason = "some time later";
      const request = locks.request(a, { signal: controller.signal }, never);
      setTimeout(() => controller.abort(reason), 30);
      await rejects(request, reason, "request");
      held.release();
      await held.request;
    },
  },
  {
    name: "a signal that does not abort changes nothing",
    async run({ locks, a }) {
      const { signal } = new AbortController();
      same(await locks.request(a, { signal }, () => "granted"), "granted", "value");
    },
  },
  {
    name: "an abort right after the request wins over the grant, and leaves the lock free",
    async run({ locks, a }) {
      const controller = new AbortController();
      const request = locks.request(a, { signal: controller.signal }, never);
      controller.abort();
      await domException(request, "AbortError", "request");
      same(await locks.request(a, () => "granted"), "granted", "the next request");
    },
  },
  ...(["before", "after"] as const).map((when): Case => ({
    name: `an abort after the grant, ${when} the callback's end, does nothing`,
    async run({ locks, a }) {
      const controller = new AbortController();
      const { granted, release, request } = hold(locks, a, { signal: controller.signal });
      await granted;
      if (when === "before") controller.abort();
      release("value");
      if (when === "after") controller.abort();
      same(await request, "value", "value");
    },
  })),
  {
    name: "an abort lets the next in line have its turn",
    async run({ locks, a }) {
      const controller = new AbortController();
      const first = hold(locks, a, { signal: controller.signal });
      const next = locks.request(a, () => "granted");
      controller.abort();
      await domException(first.request, "AbortError", "the first");
      same(await next, "granted", "the next");
    },
  },
  ...([undefined, "a reason of one's own"] as const).map((reason): Case => ({
    name: `an abort right after the request rejects with ${
      reason ?? "the signal's default reason"
    }`,
    async run({ locks, a }) {
      const controller = new AbortController();
      const { request } = hold(locks, a, { signal: controller.signal });
      controller.abort(reason);
      await rejects(request, controller.signal.reason, "request");
    },
  })),
  {
    name: "an abort of one who waits in the middle leaves the order of the others",
    async run({ locks, a }) {
      const held = hold(locks, a);
      await held.granted;
      const controller = new AbortController();
      const granted: number[] = [];
      const one = locks.request(a, () => granted.push(1));
      const two = locks.request(a, { signal: controller.signal }, never);
      const three = locks.request(a, () => granted.push(3));
      await pause(10);
      controller.abort();
      await domException(two, "AbortError", "the second");
      held.release();
      await Promise.all([held.request, one, three]);
      same(granted, [1, 3], "order");
    },
  },
];
