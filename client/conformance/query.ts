import { same } from "./expect.ts";
import { type Case, hold, type TestedInfo } from "./surroundings.ts";

const named = (list: TestedInfo[] | undefined, name: string) =>
  (list ?? []).filter((info) => info.name === name);
const MEMBERS = ["name", "mode", "clientId"] as const;

/** `query()`. */
export const QUERY: Case[] = [
  {
    name: "query() gives two lists, which know nothing of a name that nobody has asked for",
    async run({ locks, a }) {
      const snapshot = await locks.query();
      for (const list of ["held", "pending"] as const) {
        same(Object.hasOwn(snapshot, list), true, `own property ${list}`);
        same(Array.isArray(snapshot[list]), true, `${list} is a list`);
        same(named(snapshot[list], a).length, 0, `length of ${list}`);
      }
    },
  },
  {
    name: "query() gives name, mode and client of what is held and of what waits",
    async run({ locks, a }) {
      const held = hold(locks, a);
      const waiting = hold(locks, a);
      const snapshot = await locks.query();
      for (const list of ["held", "pending"] as const) {
        const [info, ...more] = named(snapshot[list], a);
        same(more.length, 0, `${list}: once`);
        for (const member of MEMBERS) {
          same(Object.hasOwn(info!, member), true, `${list} has its own ${member}`);
          same(typeof info![member], "string", `${list}: type of ${member}`);
        }
        same(info!.mode, "exclusive", `${list}: mode`);
      }
      held.release();
      waiting.release();
      await Promise.all([held.request, waiting.request]);
    },
  },
  {
    name: "query() lists each lock that is held once, and one client of all of them",
    async run({ locks, a, b }) {
      await locks.request(a, async () => {
        await locks.request(b, async () => {
          const { held } = await locks.query();
          const both = [...named(held, a), ...named(held, b)];
          same(both.map(({ mode }) => mode), ["exclusive", "exclusive"], "modes");
          same(both[0]!.clientId, both[1]!.clientId, "client");
        });
        const { held } = await locks.query();
        same([named(held, a).length, named(held, b).length], [1, 0], "after the release of one");
      });
    },
  },
  {
    name: "query() knows of requests that were made just before, as many as there are",
    async run({ locks, a }) {
      const held = hold(locks, a);
      const waiting = [hold(locks, a), hold(locks, a), hold(locks, a)];
      const snapshot = await locks.query();
      same(
        [named(snapshot.held, a).length, named(snapshot.pending, a).length],
        [1, 3],
        "held, pending",
      );
      held.release();
      for (const { release } of waiting) release();
      await Promise.all([held.request, ...waiting.map(({ request }) => request)]);
      const after = await locks.query();
      same([named(after.held, a).length, named(after.pending, a).length], [0, 0], "at last");
    },
  },
  {
    name: "query() does not count a request that ifAvailable refused",
    async run({ locks, a }) {
      const held = hold(locks, a);
      await held.granted;
      await locks.request(a, { ifAvailable: true }, async (lock: unknown) => {
        same(lock, null, "lock");
        const snapshot = await locks.query();
        same(
          [named(snapshot.held, a).length, named(snapshot.pending, a).length],
          [1, 0],
          "held, pending",
        );
      });
      held.release();
      await held.request;
    },
  },
  {
    name: "query() gives those who wait for one name in the order of their requests",
    async run({ locks, a, b }) {
      const held = [hold(locks, a), hold(locks, b)];
      await Promise.all(held.map(({ granted }) => granted));
      const waiting = [a, b, a].map((name) => hold(locks, name));
      const { pending } = await locks.query();
      same([named(pending, a).length, named(pending, b).length], [2, 1], "pending");
      for (const { release } of [...held, ...waiting]) release();
      await Promise.all([...held, ...waiting].map(({ request }) => request));
    },
  },
  {
    name: "a snapshot is the caller's own: changing it changes nothing",
    async run({ locks, a }) {
      await locks.request(a, async () => {
        const snapshot = await locks.query();
        snapshot.held!.length = 0;
        same(named((await locks.query()).held, a).length, 1, "held");
      });
    },
  },
];
