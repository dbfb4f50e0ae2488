// A checker is worth what it finds: a small history that is right, made wrong in one way for each property.
import { assert, assertEquals } from "@std/assert";
import { check, CHECKS } from "./checks.ts";
import type { Answer, Call, History } from "./history.ts";
import { checkLinearizable } from "./linearizable.ts";
import { shrink } from "./shrink.ts";
import { timeline } from "./timeline.ts";

const VIDEO = "v";
const KEY = "v layout";
const S = 1e6;

/** Two leases of one lock, one after the other, a guarded write under the first, and a place in line for the second. */
// deno-lint-ignore holdfast/short-functions -- one history, from its begin to its end
function right(): History {
  const call = (
    n: number,
    at: number,
    op: Call["op"],
    holder: string,
    ask: Call["ask"],
    answer: Answer,
  ): Call => ({
    n,
    client: holder,
    op,
    holder,
    type: "server",
    video: VIDEO,
    names: ["layout"],
    isSet: false,
    ask,
    called: at,
    returned: at + 1000,
    answer,
  });
  const lease = (id: string, holder: string, token: number, at: number) => ({
    database_name: "layout",
    lock_id: id,
    lock_holder_user_id: holder,
    lock_type: "server",
    fencing_token: token,
    locked_at: at,
    expires_at: at + 60 * S,
    ttl_seconds: 60,
    released_at: 0,
    state: { server_version: 0 },
  });
  const granted = (id: string, holder: string, token: number, at: number): Answer => {
    const { state, ...lock } = lease(id, holder, token, at);
    return { acquired: true, lock: { ...lock, state }, state, server_time: at };
  };
  const ask = (id: string, queue = 0) => ({ id, ttl: 60, takeOver: false, queue });
  const held = {
    lock_holder_user_id: "a",
    lock_type: "server",
    locked_at: 1 * S + 500,
    last_activity_at: 1 * S + 500,
    expires_at: 61 * S + 500,
  };
  return {
    seed: 0,
    calls: [
      call(0, 1 * S, "acquire", "a", ask("A"), granted("A", "a", 10, 1 * S + 500)),
      call(1, 2 * S, "write", "a", { token: 10 }, {
        started: 2 * S + 100,
        checked: 2 * S + 200,
        committing: 2 * S + 800,
      }),
      call(2, 3 * S, "acquire", "b", ask("B", 30), {
        acquired: false,
        reason: "held",
        database_name: "layout",
        holder: held,
        queue: { position: 1, length: 1 },
        server_time: 3 * S + 500,
      }),
      call(3, 4 * S, "release", "a", { id: "A" }, {
        released: true,
        lock: { ...lease("A", "a", 10, 1 * S + 500), released_at: 4 * S + 500 },
      }),
      call(4, 5 * S, "acquire", "b", ask("B", 30), granted("B", "b", 20, 5 * S + 500)),
    ],
    grants: [
      grant("A", "a", 10, 1 * S + 500, 4 * S + 500, "released"),
      { ...grant("B", "b", 20, 5 * S + 500, null, null), expiresAt: 65 * S + 500 },
    ],
    cancelled: [],
    writes: [{ key: KEY, token: 10, n: 1 }],
    beliefs: [{ key: KEY, id: "A", until: 3 * S }],
    undecided: [],
    members: {},
    tenant: "t",
    clockError: 10,
  };
}

function grant(
  id: string,
  holder: string,
  token: number,
  lockedAt: number,
  endedAt: number | null,
  reason: string | null,
) {
  return {
    key: KEY,
    id,
    holder,
    type: "server",
    token,
    lockedAt,
    endedAt,
    reason,
    expiresAt: null,
  };
}

/** How each property is broken. */
const WRONG: Record<keyof typeof CHECKS, (history: History) => void> = {
  "leases of a lock do not overlap (P1)": ({ grants }) => grants[0]!.endedAt = 6 * S,
  "the clock of an answer lies within its call (P3)": ({ calls }) =>
    calls[2]!.answer!.server_time = 2 * S,
  "tokens grow in the order of the grants (P4)": ({ grants }) => grants[1]!.token = 10,
  "one lock_id, one grant (P5)": ({ calls }) => {
    const again = structuredClone(calls[4]!);
    again.answer!.lock!.fencing_token = 30;
    calls.push({ ...again, n: 5, called: 6 * S, returned: 6 * S + 1000 });
  },
  "what was cancelled is never granted (P5)": ({ cancelled }) =>
    cancelled.push({ key: KEY, id: "B", type: "server", holder: "" }),
  "no guarded write without its grant (P4)": ({ calls }) => calls[1]!.answer!.committing = 6 * S,
  "what was acknowledged is kept": ({ grants }) => grants.pop(),
  "the lock history is what callers were told": ({ grants }) =>
    grants[0]!.reason = "force_released",
  "nobody is overtaken in the line (P12)": ({ calls, grants }) => {
    const other = structuredClone(calls[4]!);
    other.ask.id = other.answer!.lock!.lock_id = "C";
    calls.splice(4, 1, { ...other, holder: "c" });
    Object.assign(grants[1]!, { id: "C", holder: "c" });
  },
  "no deadlock, and no error but those of the contract": ({ calls }) =>
    calls[2]!.answer = { sqlstate: "40P01" },
  "each lock is linearizable": ({ calls }) => calls[2]!.answer!.holder!.lock_holder_user_id = "z",
  "tokens grow as callers saw them (P4)": ({ calls }) => {
    calls[4]!.answer!.lock!.fencing_token = 10;
    calls[0]!.answer!.lock!.fencing_token = 20;
  },
  "what is written has its grant (P4)": ({ writes }) => writes[0]!.token = 15,
  "no write after a newer grant was told (P4)": ({ calls }) => calls[1]!.called = 6 * S,
  "the client library lets go in time": ({ beliefs }) => beliefs[0]!.until = 5 * S,
};

Deno.test("a history that is right passes every check", () => {
  assertEquals(check(right()), []);
});

for (const [property, breakIt] of Object.entries(WRONG)) {
  Deno.test(`a history is found out in which it is not true that ${property}`, () => {
    const history = right();
    breakIt(history);
    const found = CHECKS[property]!(history);
    assert(found.length > 0, "nothing was found");
    assert(timeline(history, found[0]!).startsWith("<svg"));
    const smaller = shrink(history, found[0]!);
    assert(CHECKS[property]!(smaller).length > 0, "what is left shows it, too");
  });
}

Deno.test("of a history that does not hold, what has nothing to do with it is left out", () => {
  const history = right();
  const other = { ...structuredClone(history.calls.at(-1)!), ask: {}, answer: null };
  history.calls.push({ ...other, n: 5, called: 70 * S, returned: 71 * S });
  history.calls.push({ ...other, n: 6, names: ["audio"], called: 0, returned: S });
  history.calls[1]!.answer!.committing = 6 * S;
  const [found] = CHECKS["no guarded write without its grant (P4)"]!(history);
  assertEquals(shrink(history, found!).calls.map(({ n }) => n), [0, 1, 2, 3, 4]);
});

Deno.test("every check is tried on a history that is wrong", () => {
  assertEquals(Object.keys(WRONG).sort(), Object.keys(CHECKS).sort());
});

/** A register, the object of the papers: `["write", 1]`, `["read", 1]`. */
const register = {
  initial: 0,
  key: String,
  step: (state: number, [what, value]: [string, number]) =>
    what === "write" ? [value] : state === value ? [state] : [],
};
type Timed = [what: string, value: number, called: number, returned: number];
const isLinearizable = (calls: Timed[]) =>
  checkLinearizable(
    calls.map(([what, value, called, returned]) => ({
      input: [what, value] as [string, number],
      called,
      returned,
      hint: called,
    })),
    register,
  ).linearizable;

Deno.test("a read beside a write may see the old value or the new one, and after it only the new one", () => {
  assert(isLinearizable([["write", 1, 0, 10], ["read", 0, 1, 9], ["read", 1, 2, 8]]));
  assert(!isLinearizable([["write", 1, 0, 10], ["read", 0, 11, 12]]));
});

Deno.test("two reads, one after the other, do not see the values the other way round", () => {
  assert(!isLinearizable([["write", 1, 0, 10], ["read", 1, 1, 2], ["read", 0, 3, 4]]));
});

Deno.test("a write without an answer may have come late, or never", () => {
  assert(isLinearizable([["write", 1, 0, Infinity], ["read", 0, 5, 6], ["read", 1, 7, 8]]));
  assert(isLinearizable([["write", 1, 0, Infinity], ["read", 0, 5, 6]]));
  assert(!isLinearizable([["write", 1, 0, Infinity], ["read", 1, 5, 6], ["read", 0, 7, 8]]));
});

Deno.test("a write that is settled cannot come any more", () => {
  const calls = (settled: number) => [
    { input: ["write", 1] as [string, number], called: 0, returned: Infinity, settled, hint: 0 },
    { input: ["read", 0] as [string, number], called: 5, returned: 6, hint: 5 },
    { input: ["read", 1] as [string, number], called: 7, returned: 8, hint: 7 },
  ];
  assert(checkLinearizable(calls(6), register).linearizable);
  assert(!checkLinearizable(calls(4), register).linearizable);
});

Deno.test("an order is found among many calls at the same time", () => {
  const calls: Timed[] = Array.from({ length: 12 }, (_, i) => ["write", i, 0, 100]);
  assert(isLinearizable([...calls, ["read", 5, 101, 102], ["read", 5, 103, 104]]));
  assert(!isLinearizable([...calls, ["read", 12, 101, 102]]));
});
