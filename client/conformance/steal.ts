import { domException, same } from "./expect.ts";
import { type Case, hold, type TestedLock } from "./surroundings.ts";

const forever = () => new Promise(() => {});

/** The option `steal`. */
export const STEAL: Case[] = [
  {
    name: "steal takes a free lock",
    async run({ locks, a }) {
      same(await locks.request(a, { steal: true }, (lock: TestedLock) => lock.name), a, "name");
    },
  },
  {
    name: "steal takes a lock that is held, and the holder's request rejects with an AbortError",
    async run({ locks, a }) {
      const request = locks.request(a, forever);
      const rejected = domException(request, "AbortError", "the holder");
      same(await locks.request(a, { steal: true }, (lock: TestedLock) => lock.name), a, "name");
      await rejected;
    },
  },
  {
    name: "steal goes before those who wait, and they have their turn afterwards",
    async run({ locks, a }) {
      const order: string[] = [];
      locks.request(a, forever).catch(() => order.push("broken"));
      const waiting = locks.request(a, () => order.push("waited"));
      await locks.request(a, { steal: true }, () => order.push("stolen"));
      await waiting;
      same(order.filter((what) => what !== "broken"), ["stolen", "waited"], "order");
      same(order.includes("broken"), true, "the holder's request rejected");
    },
  },
  {
    name: "of two who steal the last one wins",
    async run({ locks, a }) {
      locks.request(a, forever).catch(() => {});
      const first = domException(
        locks.request(a, { steal: true }, forever),
        "AbortError",
        "the first",
      );
      same(await locks.request(a, { steal: true }, () => "mine"), "mine", "the second");
      await first;
    },
  },
  {
    name: "what the callback of a stolen lock does later changes nothing",
    async run({ locks, a }) {
      const held = hold(locks, a);
      const rejected = domException(held.request, "AbortError", "the holder");
      const thief = hold(locks, a, { steal: true });
      await thief.granted;
      await rejected;
      held.release("late");
      const free = await locks.request(a, { ifAvailable: true }, (lock: unknown) => lock !== null);
      same(free, false, "the thief still holds it");
      thief.release();
      await thief.request;
    },
  },
];
