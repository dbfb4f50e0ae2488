// What has to hold in any history. Each check is a property by itself, simple enough to be trusted; checks_test.ts shows that
// each finds what it is for.
import {
  type Call,
  type History,
  keyOf,
  type KnownGrant,
  leasesOf,
  type SeenLease,
  type Violation,
} from "./history.ts";
import {
  libraryLetsGo,
  noWriteAfterNewerGrant,
  tokensGrowAsSeen,
  writesHaveGrants,
} from "./checks_seen.ts";
import { checkLinearizable } from "./linearizable.ts";
import { lockObject, operationsOf } from "./lock_object.ts";

/** A property. */
export type Check = (history: History) => Violation[];

/** Every property, by its name. */
export const CHECKS: Record<string, Check> = {
  "leases of a lock do not overlap (P1)": doNotOverlap,
  "the clock of an answer lies within its call (P3)": answersAreOfTheirTime,
  "tokens grow in the order of the grants (P4)": tokensGrow,
  "one lock_id, one grant (P5)": oneGrant,
  "what was cancelled is never granted (P5)": nothingCancelledIsGranted,
  "no guarded write without its grant (P4)": writesAreGuarded,
  "what was acknowledged is kept": nothingIsLost,
  "the lock history is what callers were told": historyIsTrue,
  "nobody is overtaken in the line (P12)": nobodyIsOvertaken,
  "no deadlock, and no error but those of the contract": noOtherErrors,
  "each lock is linearizable": eachLockIsLinearizable,
  "tokens grow as callers saw them (P4)": tokensGrowAsSeen,
  "what is written has its grant (P4)": writesHaveGrants,
  "no write after a newer grant was told (P4)": noWriteAfterNewerGrant,
  "the client library lets go in time": libraryLetsGo,
};

/**
 * Checks a history.
 *
 * @param history The history.
 * @param waived Properties that were not promised under these faults.
 * @returns All that does not hold.
 */
export function check(history: History, waived: readonly string[] = []): Violation[] {
  return Object.entries(CHECKS).flatMap(([name, property]) =>
    waived.includes(name) ? [] : property(history)
  );
}

function locks({ grants, calls }: History): string[] {
  const called = calls.flatMap((call) => call.names.map((name) => keyOf(call, name)));
  return [...new Set([...grants.map(({ key }) => key), ...called])];
}

function grantsOf({ grants }: History, key: string): KnownGrant[] {
  return grants.filter((grant) => grant.key === key).sort((a, b) => a.lockedAt - b.lockedAt);
}

/** The calls that speak of this acquisition. */
function about({ calls }: History, { id, key }: { id: string; key: string }): number[] {
  return calls.filter((call) =>
    key.startsWith(call.video) &&
    (call.ask.id === id || leasesOf(call.answer).some((lease) => lease.lock_id === id))
  ).map(({ n }) => n);
}

function doNotOverlap(history: History): Violation[] {
  return locks(history).flatMap((key) => {
    const grants = grantsOf(history, key);
    return grants.slice(1).flatMap((later, i) => {
      const earlier = grants[i]!;
      const end = earlier.endedAt ?? earlier.expiresAt!;
      return later.lockedAt >= end ? [] : [{
        what: "leases of a lock do not overlap (P1)",
        why: `${later.id} was granted ${end - later.lockedAt} µs before ${earlier.id} ended`,
        calls: [...about(history, earlier), ...about(history, later)],
      }];
    });
  });
}

function answersAreOfTheirTime({ calls, clockError }: History): Violation[] {
  return calls.flatMap((call) => {
    if (!call.answer) return [];
    const isNew = call.answer.acquired && leasesOf(call.answer)[0]!.locked_at > call.called;
    const times = [
      call.answer.server_time,
      ...(isNew ? [leasesOf(call.answer)[0]!.locked_at] : []),
    ].filter((time) => time !== undefined);
    // a function that says busy for the database has its clock from the header Date, to a second
    const early = call.answer.reason === "busy" && times[0]! % 1e6 === 0 ? 1e6 : 0;
    const isRight = times.every((time) =>
      time >= call.called - clockError - early && time <= call.returned! + clockError
    );
    return isRight ? [] : [{
      what: "the clock of an answer lies within its call (P3)",
      why:
        `call ${call.n} (${call.op}) says ${times}, and went from ${call.called} to ${call.returned}`,
      calls: [call.n],
    }];
  });
}

function tokensGrow(history: History): Violation[] {
  return locks(history).flatMap((key) => {
    const grants = grantsOf(history, key);
    return grants.slice(1).flatMap((later, i) =>
      later.token > grants[i]!.token ? [] : [{
        what: "tokens grow in the order of the grants (P4)",
        why: `${grants[i]!.token} was followed by ${later.token}`,
        calls: [...about(history, grants[i]!), ...about(history, later)],
      }]
    );
  });
}

/** Every grant that anybody was told of, with the call that told. */
function told({ calls }: History): { call: Call; key: string; lease: SeenLease }[] {
  return calls.filter(({ answer }) => answer?.acquired).flatMap((call) =>
    leasesOf(call.answer).map((lease) => ({ call, key: keyOf(call, lease.database_name), lease }))
  );
}

function oneGrant(history: History): Violation[] {
  const first = new Map<string, { call: Call; lease: SeenLease }>();
  return told(history).flatMap(({ call, key, lease }) => {
    const name = `${key} ${lease.lock_id}`;
    const known = first.get(name) ?? { call, lease };
    first.set(name, known);
    return known.lease.fencing_token === lease.fencing_token ? [] : [{
      what: "one lock_id, one grant (P5)",
      why:
        `${lease.lock_id} was granted with token ${known.lease.fencing_token} and with ${lease.fencing_token}`,
      calls: [known.call.n, call.n],
    }];
  });
}

function nothingCancelledIsGranted(history: History): Violation[] {
  return told(history).flatMap(({ call, key, lease }) => {
    const isCancelled = history.cancelled.some((one) =>
      one.key === key && one.id === lease.lock_id && one.type === call.type &&
      (one.type === "server" || one.holder === call.holder)
    );
    return !isCancelled ? [] : [{
      what: "what was cancelled is never granted (P5)",
      why: `${lease.lock_id} was granted, and cancelled too`,
      calls: about(history, { id: lease.lock_id, key }),
    }];
  });
}

/**
 * A guarded write that was committed has the token of a lease that lived when the token was checked, and nobody was granted
 * the lock until its commit. (Its own holder may give the lease back meanwhile. And who is not yet told of a release may
 * still write: it counts from its commit, which is later than the moment that it tells.)
 */
function writesAreGuarded(history: History): Violation[] {
  return history.calls.flatMap((call) => {
    const { answer, ask } = call;
    if (call.op !== "write" || answer?.committing === undefined) return [];
    const grants = grantsOf(history, keyOf(call, call.names[0]!));
    const own = grants.find((grant) => grant.token === ask.token);
    const next = grants.find((grant) => own && grant.lockedAt > own.lockedAt);
    const end = own ? knownEnd(history, own) : 0;
    const why = !own
      ? "whose token is nobody's"
      : own.lockedAt > answer.checked!
      ? "before its grant"
      : end < answer.started!
      ? `${answer.started! - end} µs after its lease ended`
      : next && next.lockedAt < answer.committing
      ? `that was committed ${answer.committing - next.lockedAt} µs after the next grant`
      : null;
    return why === null ? [] : [{
      what: "no guarded write without its grant (P4)",
      why: `call ${call.n} was a write ${why}`,
      calls: [call.n, ...(next ? about(history, next) : []), ...(own ? about(history, own) : [])],
    }];
  });
}

/** When a lease had surely ended for everybody: when it ran out, or when somebody had been told that it was released. */
function knownEnd({ calls, clockError }: History, grant: KnownGrant): number {
  if (grant.reason === null) return grant.expiresAt!;
  if (grant.reason === "expired") return grant.endedAt!;
  const told = calls.filter((call) =>
    call.answer?.released &&
    leasesOf(call.answer).some((lease) =>
      lease.lock_id === grant.id && keyOf(call, lease.database_name) === grant.key
    )
  );
  return Math.min(...told.map(({ returned }) => returned! + clockError));
}

function nothingIsLost(history: History): Violation[] {
  const what = "what was acknowledged is kept";
  const lost = told(history).flatMap(({ call, key, lease }) => {
    const known = history.grants.some((grant) =>
      grant.key === key && grant.id === lease.lock_id && grant.token === lease.fencing_token &&
      grant.lockedAt === lease.locked_at
    );
    return known ? [] : [{
      what,
      why: `the grant ${lease.lock_id} with token ${lease.fencing_token} is nowhere`,
      calls: [call.n],
    }];
  });
  const unwritten = history.calls.filter((call) =>
    call.op === "write" && call.answer?.committing !== undefined &&
    !history.writes.some(({ n }) => n === call.n)
  ).map((call) => ({ what, why: `write ${call.n} is nowhere`, calls: [call.n] }));
  const unreleased = history.calls.filter((call) => call.answer?.released).flatMap((call) =>
    leasesOf(call.answer).filter((lease) =>
      !history.grants.some((grant) =>
        grant.key === keyOf(call, lease.database_name) && grant.id === lease.lock_id &&
        grant.endedAt === lease.released_at
      )
    ).map((lease) => ({ what, why: `the release of ${lease.lock_id} is nowhere`, calls: [call.n] }))
  );
  return [...lost, ...unwritten, ...unreleased];
}

/** Every lease that ended did so because of a call that could end it, or at its own end; and was granted by a call. */
function historyIsTrue(history: History): Violation[] {
  const what = "the lock history is what callers were told";
  const within = (call: Call, time: number) =>
    call.called - history.clockError <= time &&
    (call.returned === null || time <= call.returned + history.clockError);
  return history.grants.flatMap((grant) => {
    const here = (call: Call) =>
      grant.key.startsWith(call.video) &&
      (call.names.length === 0 || call.names.some((name) => keyOf(call, name) === grant.key));
    const isGranted = history.calls.some((call) =>
      call.op === "acquire" && call.ask.id === grant.id && here(call) &&
      call.holder === grant.holder && call.type === grant.type && within(call, grant.lockedAt)
    );
    const end = grant.endedAt ?? 0;
    const endedBy: Record<string, (call: Call) => boolean> = {
      released: ({ op, ask, type, holder }) =>
        op === "release" && !ask.force && type === grant.type &&
        (type === "server" && !ask.byHolder || holder === grant.holder) &&
        (ask.id ?? grant.id) === grant.id,
      taken_over: ({ op, ask, type, holder }) =>
        op === "acquire" && ask.takeOver === true && type === grant.type && holder === grant.holder,
      force_released: ({ op, ask }) =>
        op === "delete row" || op === "delete video" ||
        op === "release" && ask.force === true && (ask.id ?? grant.id) === grant.id,
    };
    const isEnded = grant.reason === null || grant.reason === "expired" ||
      history.calls.some((call) =>
        here(call) && within(call, end) && endedBy[grant.reason!]!(call)
      );
    return [
      ...(isGranted ? [] : [`${grant.id} was granted to nobody who asked`]),
      ...(isEnded ? [] : [`${grant.id} was ended as ${grant.reason} by nobody`]),
    ].map((why) => ({ what, why, calls: about(history, grant) }));
  });
}

/** Whoever had a place before another one came, and kept it, has the lock before that other one. */
function nobodyIsOvertaken(history: History): Violation[] {
  const waits = waitsOf(history);
  return told(history).flatMap(({ call, key, lease }) => {
    const first = history.calls.find((one) => one.ask.id === lease.lock_id && here(one, key));
    if (call.ask.takeOver || lease.locked_at < call.called || !first) return [];
    return waits.filter((wait) =>
      wait.key === key && wait.id !== lease.lock_id &&
      wait.since < first.called - history.clockError &&
      wait.until > lease.locked_at && (wait.ended === null || wait.ended > lease.locked_at)
    ).map((wait) => ({
      what: "nobody is overtaken in the line (P12)",
      why: `${lease.lock_id} came after ${wait.id} had its place, and was granted before it`,
      calls: [...wait.calls, first.n, call.n],
    }));
  });
}

function here(call: Call, key: string): boolean {
  return call.names.some((name) => keyOf(call, name) === key);
}

/** The places of servers (users may lose the right to theirs), each from when its caller was told of it until it surely lapsed. */
function waitsOf(history: History) {
  const places = new Map<
    string,
    { key: string; id: string; since: number; until: number; ended: number | null; calls: number[] }
  >();
  for (const call of history.calls) {
    const { id, queue = 0 } = call.ask;
    const key = call.answer?.database_name && keyOf(call, call.answer.database_name);
    if (call.op !== "acquire" || call.type !== "server" || !key || !id) continue;
    if (!call.answer?.queue?.position || queue === 0) continue;
    const now = call.answer.server_time!;
    // all names of a set have a place, but what was told was of this one
    const name = `${key} ${id} ${call.holder}`;
    const known = places.get(name);
    // one that may have lapsed in between is a new one
    const isKept = known && now < known.until;
    const until = now + queue * 1e6;
    places.set(name, {
      key,
      id,
      since: isKept ? Math.min(known.since, now) : now,
      until: isKept ? Math.max(known.until, until) : until,
      ended: null,
      calls: [...known?.calls ?? [], call.n],
    });
  }
  for (const wait of places.values()) {
    // whatever else was done with this lock_id may have ended the place: it counts from when that was sent
    const ends = history.calls.filter((call) =>
      call.ask.id === wait.id && (call.op === "release" || call.answer?.acquired || !call.answer ||
        call.answer.reason === "ended" || call.answer.sqlstate !== undefined)
    ).map(({ called }) => called);
    wait.ended = ends.length > 0 ? Math.min(...ends) : null;
  }
  return [...places.values()];
}

function noOtherErrors({ calls }: History): Violation[] {
  return calls.filter(({ answer }) => answer?.sqlstate).map((call) => ({
    what: "no deadlock, and no error but those of the contract",
    why: `call ${call.n} (${call.op}): ${call.answer!.sqlstate}`,
    calls: [call.n],
  }));
}

function eachLockIsLinearizable(history: History): Violation[] {
  return locks(history).flatMap((key) => {
    const { linearizable, stuck, isUndecided } = checkLinearizable(
      operationsOf(history, key),
      lockObject(history, key),
    );
    if (isUndecided) history.undecided.push(key);
    return linearizable ? [] : [{
      what: "each lock is linearizable",
      why: `no order of the calls explains the answers from here on: ${
        stuck.map(({ input: { call } }) => `${call.n} ${call.op} ${JSON.stringify(call.answer)}`)
          .join("; ")
      }`,
      calls: stuck.map(({ input }) => input.call.n),
    }];
  });
}
