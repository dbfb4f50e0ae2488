import { domException, rejection, same, typeError } from "./expect.ts";
import { type Case, deferred } from "./surroundings.ts";

const never = () => {
  throw new Error("the callback must not run");
};
const signal = () => new AbortController().signal;

/** A call that the specification refuses. */
type Refused = readonly [what: string, ...args: unknown[]];

const TYPE_ERRORS: Record<string, Refused[]> = {
  "a name and a callback are required": [["no arguments"], ["a name only", "NAME"]],
  "the callback has to be a function": [
    ["undefined", "NAME", undefined],
    ["null", "NAME", null],
    ["a number", "NAME", 123],
    ["a string", "NAME", "text"],
    ["a list", "NAME", []],
    ["options instead of it", "NAME", {}],
    ["a promise", "NAME", new Promise(() => {})],
    ["nothing after options", "NAME", {}, undefined],
    ["an object after options", "NAME", {}, {}],
  ],
  "options have to be an object": [["a number", "NAME", 1, never], [
    "a string",
    "NAME",
    "x",
    never,
  ]],
  "the mode has to be one of the two": [
    ["another word", "NAME", { mode: "other" }, never],
    ["null", "NAME", { mode: null }, never],
    ["upper case", "NAME", { mode: "Exclusive" }, never],
  ],
  "the signal has to be an AbortSignal": [
    ["a string", "NAME", { signal: "text" }, never],
    ["a number", "NAME", { signal: 12.5 }, never],
    ["false", "NAME", { signal: false }, never],
    ["null", "NAME", { signal: null }, never],
    ["an object", "NAME", { signal: {} }, never],
    ["a symbol", "NAME", { signal: Symbol() }, never],
    ["a function", "NAME", { signal: () => {} }, never],
    ["the global object", "NAME", { signal: globalThis }, never],
    ["something that looks like one", "NAME", { signal: { aborted: false } }, never],
  ],
  "a name has to be convertible to a string": [["a symbol", Symbol(), never]],
  "arguments are converted before the rules about their combination are asked": [
    ["a wrong callback and two options that exclude each other", "NAME", {
      steal: true,
      ifAvailable: true,
    }, 1],
    ["a wrong mode and a forbidden name", "-", { mode: "other" }, never],
    ["a wrong signal and a forbidden name", "-", { signal: {} }, never],
  ],
};

const NOT_SUPPORTED: Record<string, Refused[]> = {
  "a name must not begin with a hyphen": [["only a hyphen", "-", never], ["a name", "-a", never]],
  "steal and ifAvailable exclude each other": [
    ["both", "NAME", { steal: true, ifAvailable: true }, never],
    ["both, as values that are true", "NAME", { steal: 1, ifAvailable: "yes" }, never],
  ],
  "steal is for exclusive locks": [["shared", "NAME", { steal: true, mode: "shared" }, never]],
  "signal and steal exclude each other": [
    ["both", "NAME", { steal: true, signal: signal() }, never],
  ],
  "signal and ifAvailable exclude each other": [
    ["both", "NAME", { ifAvailable: true, signal: signal() }, never],
  ],
  "combinations are judged before the signal is asked whether it has aborted": [
    ["steal", "NAME", { steal: true, signal: AbortSignal.abort() }, never],
    ["ifAvailable", "NAME", { ifAvailable: true, signal: AbortSignal.abort() }, never],
  ],
};

const refusals = (
  table: Record<string, Refused[]>,
  check: (promise: unknown, what: string) => Promise<void>,
): Case[] =>
  Object.entries(table).map(([name, calls]) => ({
    name,
    async run({ locks, a }) {
      for (const [what, ...args] of calls) {
        await check(locks.request(...args.map((arg) => arg === "NAME" ? a : arg)), what);
      }
    },
  }));

/** What `request()` makes of its arguments. */
export const ARGUMENTS: Case[] = [
  ...refusals(TYPE_ERRORS, typeError),
  ...refusals(NOT_SUPPORTED, (promise, what) => domException(promise, "NotSupportedError", what)),
  {
    name: "members of the options are read in alphabetical order, and false flags exclude nothing",
    async run({ locks, a }) {
      const read: string[] = [];
      const options = new Proxy({ steal: false, ifAvailable: 0, signal: signal() }, {
        get(target, member) {
          if (["ifAvailable", "mode", "signal", "steal"].includes(String(member))) {
            read.push(String(member));
          }
          return Reflect.get(target, member);
        },
      });
      same(await locks.request(a, options, () => "granted"), "granted", "value");
      same(read, ["ifAvailable", "mode", "signal", "steal"], "order of reading");
    },
  },
  {
    name: "options that are null or undefined are options left out",
    async run({ locks, a }) {
      for (const options of [null, undefined]) {
        const lock = await locks.request(a, options, (lock: unknown) => lock);
        same([lock.name, lock.mode], [a, "exclusive"], "the lock");
      }
    },
  },
  {
    name: "a hyphen within a name is as good as any other character, and the mode may be given",
    async run({ locks, a }) {
      const lock = await locks.request(`${a}-x`, { mode: "exclusive" }, (lock: unknown) => lock);
      same([lock.name, lock.mode], [`${a}-x`, "exclusive"], "the lock");
    },
  },
  {
    name: "what is refused for its arguments neither runs the callback nor stands in the way",
    async run({ locks, a }) {
      const called = deferred<boolean>();
      await rejection(
        locks.request(a, { steal: true, ifAvailable: true }, () => called.resolve(true)),
        "both",
      );
      const lock = await locks.request(a, { ifAvailable: true }, (lock: unknown) => lock);
      same(lock === null, false, "the lock is free");
      called.resolve(false);
      same(await called.promise, false, "the callback ran");
    },
  },
];
