import { rejects, same } from "./expect.ts";
import { type Case, deferred, hold, type TestedLock } from "./surroundings.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** How long a lock is held, in which order it is granted, and what becomes of the callback's value. */
export const HOLDING: Case[] = [
  {
    name: "the request gives the callback's value, whether it is a promise or not",
    async run({ locks, a }) {
      const request = locks.request(a, () => 123);
      same(Promise.resolve(request), request, "the result is a promise of the realm");
      same(await request, 123, "a plain value");
      same(
        await locks.request(a, async () => await Promise.resolve("later")),
        "later",
        "a promise",
      );
      same(await locks.request(a, () => undefined), undefined, "nothing");
    },
  },
  {
    name: "what the callback throws at once rejects the request, the very value",
    async run({ locks, a }) {
      const thrown = { name: "thrown" };
      const request = locks.request(a, () => {
        throw thrown;
      });
      await rejects(request, thrown, "request");
    },
  },
  {
    name: "what the callback's promise rejects with rejects the request, the very value",
    async run({ locks, a }) {
      const thrown = { name: "thrown" };
      await rejects(locks.request(a, () => Promise.reject(thrown)), thrown, "request");
    },
  },
  {
    name: "a thrown object with a method then is not called",
    async run({ locks, a }) {
      let called = false;
      const thrown = {
        then() {
          called = true;
        },
      };
      const request = locks.request(a, () => Promise.reject(thrown));
      await rejects(request, thrown, "request");
      same(called, false, "then() was called");
    },
  },
  {
    name: "the request settles after what the callback returned, and after the release",
    async run({ locks, a }) {
      const order: string[] = [];
      const { granted, release, request } = hold(locks, a);
      const settled = request.then(() => order.push("request"));
      await granted;
      order.push("callback");
      release();
      await settled;
      same(order, ["callback", "request"], "order");
      const next = await locks.request(a, { ifAvailable: true }, (lock: unknown) => lock);
      same(next === null, false, "free as soon as the request has settled");
    },
  },
  ...(["fulfils", "rejects"] as const).map((how): Case => ({
    name: `the lock is held until the callback's promise ${how}`,
    async run({ locks, a }) {
      const order: string[] = [];
      const end = deferred<void>();
      const granted = deferred();
      const first = locks.request(a, () => {
        granted.resolve();
        return end.promise;
      });
      first.catch(() => {});
      await granted.promise;
      const second = locks.request(a, () => order.push("second granted"));
      await pause(50);
      order.push("first ends");
      if (how === "fulfils") end.resolve();
      else end.reject(new Error("expected"));
      await second;
      same(order, ["first ends", "second granted"], "order");
    },
  })),
  {
    name: "requests for one name are granted in the order in which they were made",
    async run({ locks, a }) {
      const granted: number[] = [];
      const requests = [1, 2, 3, 4].map((n) =>
        locks.request(a, async () => {
          await pause(n === 1 ? 20 : 0);
          granted.push(n);
        })
      );
      await Promise.all(requests);
      same(granted, [1, 2, 3, 4], "order");
    },
  },
  {
    name: "a name does not wait for another one",
    async run({ locks, a, b }) {
      const granted: string[] = [];
      let inner: Promise<unknown> = Promise.resolve();
      await locks.request(a, async () => {
        inner = locks.request(a, () => granted.push("a again"));
        await locks.request(b, () => granted.push("b"));
      });
      await inner;
      same(granted, ["b", "a again"], "order");
    },
  },
  {
    name: "two names are held at the same time",
    async run({ locks, a, b }) {
      const names = await locks.request(
        a,
        async (
          one: TestedLock,
        ) => [one.name, ...await locks.request(b, (two: TestedLock) => [two.name])],
      );
      same(names, [a, b], "names");
    },
  },
  {
    name: "the callback gets one lock for each grant, with the name that was asked for",
    async run({ locks, a }) {
      const first = await locks.request(a, (lock: TestedLock) => lock);
      const second = await locks.request(a, (lock: TestedLock) => lock);
      same([first.name, first.mode, second.name], [a, "exclusive", a], "the locks");
      same(first === second, false, "the same object");
    },
  },
];
