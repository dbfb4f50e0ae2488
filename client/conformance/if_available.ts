import { rejects, same } from "./expect.ts";
import { type Case, hold, type TestedLock } from "./surroundings.ts";

const thrown = { name: "thrown" };

/** The option `ifAvailable`. */
export const IF_AVAILABLE: Case[] = [
  {
    name: "ifAvailable takes a free lock",
    async run({ locks, a }) {
      const name = await locks.request(a, { ifAvailable: true }, (lock: TestedLock) => lock.name);
      same(name, a, "name");
    },
  },
  {
    name: "ifAvailable gives null where the same client holds the lock, and the callback's value",
    async run({ locks, a }) {
      await locks.request(a, async () => {
        let got: unknown = "nothing";
        const value = await locks.request(a, { ifAvailable: true }, (lock: unknown) => {
          got = lock;
          return 123;
        });
        same([got, value], [null, 123], "lock and value");
      });
    },
  },
  {
    name: "ifAvailable gives null where a request was made before, granted or not",
    async run({ locks, a }) {
      const first = hold(locks, a);
      const second = hold(locks, a);
      same(await locks.request(a, { ifAvailable: true }, (lock: unknown) => lock), null, "lock");
      first.release();
      second.release();
      await Promise.all([first.request, second.request]);
    },
  },
  ...([
    ["throws", () => {
      throw thrown;
    }],
    ["rejects", () => Promise.reject(thrown)],
  ] as const).map(([how, callback]): Case => ({
    name: `a callback that gets null and ${how} rejects the request`,
    async run({ locks, a }) {
      const held = hold(locks, a);
      await held.granted;
      const request = locks.request(a, { ifAvailable: true }, (lock: unknown) => {
        same(lock, null, "lock");
        return callback();
      });
      same(Promise.resolve(request), request, "the result is a promise of the realm");
      await rejects(request, thrown, "request");
      held.release();
      await held.request;
    },
  })),
  {
    name: "ifAvailable is not refused for a lock of another name",
    async run({ locks, a, b }) {
      await locks.request(a, async () => {
        const got = await locks.request(b, { ifAvailable: true }, (lock: unknown) => lock);
        same(got === null, false, "the lock");
      });
    },
  },
  {
    name: "ifAvailable finds a lock free that was released before, also while another is held",
    async run({ locks, a, b }) {
      await locks.request(a, async () => {
        await locks.request(b, () => {});
        const got = await locks.request(b, { ifAvailable: true }, (lock: unknown) => lock);
        same(got === null, false, "the lock");
      });
    },
  },
  {
    name: "null holds nothing: who waits is not held up by a callback that got it",
    async run({ locks, a }) {
      const held = hold(locks, a);
      await held.granted;
      const next = locks.request(a, () => "granted");
      let letGo = () => {};
      const refused = locks.request(
        a,
        { ifAvailable: true },
        () => new Promise<void>((resolve) => letGo = resolve),
      );
      held.release();
      same(await next, "granted", "the one who waited");
      letGo();
      await refused;
    },
  },
];
