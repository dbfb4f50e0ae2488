// What may happen in the life of a few locks, at random.
import fc from "fast-check";

/** Who takes part. Anna is a member of the tenant, Ben its admin and a member of the other one, Zoe only of the other one. */
export const CALLERS = ["anna", "ben", "zoe", "worker-1", "worker-2"] as const;
/** Few lock_ids, so that they are used again: by others, for other locks, after their end. Each has its usual holder and names. */
export const IDS: { holder: typeof CALLERS[number]; names: string[]; isSet: boolean }[] = [
  { holder: "anna", names: ["layout"], isSet: false },
  { holder: "anna", names: ["layout"], isSet: false },
  { holder: "ben", names: ["layout"], isSet: false },
  { holder: "worker-1", names: ["layout"], isSet: false },
  { holder: "worker-1", names: ["captions"], isSet: false },
  { holder: "worker-2", names: ["captions"], isSet: false },
  { holder: "anna", names: ["layout", "captions"], isSet: true },
  { holder: "worker-1", names: ["captions", "layout"], isSet: true },
  { holder: "worker-2", names: ["captions", "chapters"], isSet: true },
  { holder: "ben", names: ["layout"], isSet: true },
];

const NAMES = [
  { names: ["layout"], isSet: false },
  { names: ["captions"], isSet: false },
  { names: ["layout"], isSet: true },
  { names: ["layout", "captions"], isSet: true },
  { names: ["chapters", "captions", "layout"], isSet: true },
];

const NEWEST = [
  { name: "layout", isHeld: true },
  { name: "layout", isHeld: true },
  { name: "captions", isHeld: true },
  { name: "layout", isHeld: false },
  undefined,
  undefined,
  undefined,
];

const seldom = (times: number) =>
  fc.integer({ min: 1, max: times }).map((drawn) => drawn === times);
const ttl = fc.constantFrom(null, 60, 300, 3600);
const other = <T>(arbitrary: fc.Arbitrary<T>, times: number) =>
  fc.tuple(seldom(times), arbitrary).map(([is, drawn]) => is ? drawn : undefined);
const call = (times: number) => ({
  /** Which of {@linkcode IDS}. */
  id: fc.integer({ min: 0, max: IDS.length - 1 }),
  /** Instead of that, the one that holds this lock or held it last, if any did. */
  newest: fc.constantFrom(...NEWEST),
  /** Another caller than its usual holder, one time in so many. */
  by: other(fc.constantFrom(...CALLERS), times),
  /** Other names than its usual ones. */
  of: other(fc.constantFrom(...NAMES), times),
  /** The other video. */
  elsewhere: seldom(12),
});

const acquire = fc.record({
  do: fc.constant("acquire" as const),
  ...call(7),
  ttl,
  takeOver: seldom(3),
  queue: fc.constantFrom(null, 0, 20, 60),
  isUnnamed: seldom(12),
});
const renew = fc.record({
  do: fc.constant("renew" as const),
  ...call(9),
  ttl,
  active: fc.constantFrom(null, true, false),
});
const release = fc.record({
  do: fc.constant("release" as const),
  ...call(9),
  how: fc.constantFrom("id", "id", "id", "id", "holder", "force", "force id"),
});
const advance = fc.record({
  do: fc.constant("advance" as const),
  ...call(5),
  /** How many grants ago the token was given. */
  age: fc.constantFrom(0, 0, 0, 1),
});
const event = fc.record({
  do: fc.constantFrom(
    "clean up",
    "clean up",
    "delete row",
    "delete row",
    "make row",
    "delete video",
    "make video",
    "make video",
    "make video",
    "change id",
    "change tenant",
    "leave",
    "join",
    "join",
    "set versions",
    "clock was ahead",
    "clock was ahead",
  ),
  name: fc.constantFrom("layout", "captions"),
});

/** One thing that happens. */
export const step = fc.oneof(
  { weight: 12, arbitrary: acquire },
  { weight: 7, arbitrary: renew },
  { weight: 6, arbitrary: release },
  { weight: 2, arbitrary: advance },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("pass" as const),
      seconds: fc.constantFrom(10, 10, 30, 60, 130, 310, 3700),
    }),
  },
  { weight: 4, arbitrary: event },
  {
    weight: 1,
    arbitrary: other(
      fc.record({ do: fc.constant("crowd" as const), name: fc.constantFrom("layout", "captions") }),
      4,
    ).map((crowd) => crowd ?? { do: "pass" as const, seconds: 10 }),
  },
);

/** One thing that happens: a call, time that passes, or an event from outside. */
export type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;
/** A call of one of the functions. */
export type CallStep = Extract<Step, { id: number }>;
