import { type Call, type History, keyOf, type KnownGrant, leasesOf } from "./history.ts";
import type { Operation, Sequential } from "./linearizable.ts";

/** A call, as one of the locks that it is about sees it. */
export interface LockCall {
  call: Call;
  name: string;
}

interface Lease {
  id: string;
  holder: string;
  type: string;
  token: number;
  lockedAt: number;
  activeAt: number | null;
  /** It ends between these two; they differ only after a renewal of which nobody knows when it came. */
  earliest: number;
  latest: number;
}

/** A lock at one moment. */
export interface LockState {
  tenant: string | null;
  version: number;
  lease: Lease | null;
  /** The highest token that was granted. */
  token: number;
}

/**
 * The calls of one lock, for the search. A call without an answer is left out where the database shows that it did nothing.
 *
 * @param history The history.
 * @param key Which lock.
 * @returns Its operations.
 */
export function operationsOf(history: History, key: string): Operation<LockCall>[] {
  const operations: Operation<LockCall>[] = [];
  for (const call of history.calls) {
    const name = call.names.find((one) => keyOf(call, one) === key) ??
      (key.startsWith(call.video) && call.names.length === 0 ? key.split(" ")[1]! : undefined);
    if (name === undefined || call.op === "clean up" || call.answer?.code === "LOCK_BUSY") continue;
    if (["busy", "undone"].includes(call.answer?.reason ?? "") || call.answer?.sqlstate) continue;
    const grant = history.grants.find((one) => one.key === key && one.id === call.ask.id);
    if (!call.answer && call.op === "acquire" && !grant) continue;
    if (!call.answer && call.op === "write") continue;
    const lease = leasesOf(call.answer).find((one) => one.database_name === name);
    operations.push({
      input: { call, name },
      called: call.called - history.clockError,
      returned: call.answer ? call.returned! + history.clockError : Infinity,
      settled: call.settled && call.settled + history.clockError,
      hint: call.answer?.server_time ?? lease?.released_at ?? call.answer?.checked ??
        (call.answer ? call.returned! : grant?.lockedAt ?? call.called + 1e6),
    });
  }
  return operations;
}

/**
 * What a lock has to do, one call at a time. What the database knows in the end of grants that ended and of
 * cancellations never changes once it is there, so the states need not carry it.
 *
 * @param history The history.
 * @param key Which lock.
 * @returns The object for {@linkcode checkLinearizable}.
 */
export function lockObject(history: History, key: string): Sequential<LockCall, LockState> {
  const grants = new Map(
    history.grants.filter((grant) => grant.key === key).map((grant) => [grant.id, grant]),
  );
  const isCancelled = (call: Call) =>
    history.cancelled.some((one) =>
      one.key === key && one.id === call.ask.id && one.type === call.type &&
      (one.type === "server" || one.holder === call.holder)
    );
  const context: Context = { history, grants, isCancelled };
  return {
    initial: { tenant: history.tenant, version: 0, lease: null, token: 0 },
    key: ({ tenant, version, lease, token }) =>
      `${tenant} ${version} ${token} ${
        lease && `${lease.id} ${lease.earliest} ${lease.latest} ${lease.activeAt}`
      }`,
    step(state, { call, name }) {
      if (call.answer?.code === "INVALID_REQUEST") return [state];
      if (call.answer?.code === "VIDEO_NOT_FOUND") {
        return state.tenant === null || !maySee(context, state, call) ? [state] : [];
      }
      switch (call.op) {
        case "acquire":
          return acquire(context, state, call, name);
        case "renew":
          return renew(context, state, call, name);
        case "release":
          return release(context, state, call, name);
        case "advance":
        case "write":
          return write(context, state, call);
        case "delete row":
          return [{ ...state, lease: null, version: 0 }];
        case "delete video":
          return [{ ...state, lease: null, version: 0, tenant: null }];
        case "make video":
          return [{ ...state, tenant: call.ask.tenant! }];
        case "change tenant":
          return [{ ...state, tenant: state.tenant && call.ask.tenant! }];
        case "count":
          if (!call.answer) return [{ ...state, version: state.version + 1 }];
          // without a row there is nothing to count
          if (call.answer.version === undefined) return state.version === 0 ? [state] : [];
          return call.answer.version === state.version + 1
            ? [{ ...state, version: call.answer.version }]
            : [];
        case "clean up":
          return [state];
      }
    },
  };
}

interface Context {
  history: History;
  grants: Map<string, KnownGrant>;
  isCancelled: (call: Call) => boolean;
}

function maySee({ history }: Context, state: LockState, call: Call): boolean {
  return state.tenant !== null &&
    (call.type === "server" || history.members[state.tenant]!.includes(call.holder));
}

function isTheirs(call: Call, what: { holder: string; type: string }): boolean {
  return what.type === call.type && (call.type === "server" || what.holder === call.holder);
}

/** Whether an acquisition had ended for this reason, once the lock was where it is. */
function hasEnded(
  { grants }: Context,
  state: LockState,
  id: string | undefined,
  reason: string | undefined,
): boolean {
  const grant = grants.get(id ?? "");
  return grant !== undefined && grant.reason === reason && grant.token <= state.token &&
    state.lease?.id !== id;
}

function acquire(context: Context, state: LockState, call: Call, name: string): LockState[] {
  const { ask, answer } = call;
  const { lease } = state;
  if (!answer) {
    const grant = context.grants.get(ask.id!)!;
    const { token, lockedAt } = grant;
    if (lease?.id === ask.id) return [state];
    return token > state.token ? [{ ...state, token, lease: fresh(call, grant, lockedAt) }] : [];
  }
  if (!maySee(context, state, call)) return [];
  const now = answer.server_time!;
  if (answer.acquired) {
    const seen = leasesOf(answer).find((one) => one.database_name === name)!;
    if (seen.state.server_version !== state.version) return [];
    if (lease && lease.id === seen.lock_id) {
      return agrees(lease, seen) && lease.latest > now
        ? [{ ...state, lease: { ...lease, earliest: seen.expires_at, latest: seen.expires_at } }]
        : [];
    }
    const isFree = !lease || lease.earliest <= now ||
      ask.takeOver && lease.holder === call.holder && lease.type === call.type;
    const isFresh = context.grants.get(seen.lock_id)?.token === seen.fencing_token;
    if (!isFree || !isFresh || seen.fencing_token <= state.token) return [];
    const granted = fresh(
      call,
      { id: seen.lock_id, token: seen.fencing_token },
      seen.locked_at,
    );
    return [{ ...state, token: seen.fencing_token, lease: granted }];
  }
  if (answer.database_name !== name) return [state];
  if (answer.reason === "ended") {
    const lapsed = lease?.id === ask.id && answer.end_reason === "expired" &&
      lease!.earliest <= now;
    const isTrue = answer.end_reason === "cancelled"
      ? context.isCancelled(call)
      : lapsed || hasEnded(context, state, ask.id, answer.end_reason);
    return isTrue ? [state] : [];
  }
  if (answer.reason === "queued") return !lease || lease.earliest <= now ? [state] : [];
  return asSeen(state, answer);
}

/** The state, if its holder is the one that an answer shows. */
function asSeen(state: LockState, { holder }: { holder?: Call["answer"] & object | unknown }) {
  const { lease } = state;
  const seen = holder as {
    lock_holder_user_id: string;
    locked_at: number;
    last_activity_at: number;
    expires_at: number;
  } | null;
  const agree = lease && seen && lease.holder === seen.lock_holder_user_id &&
    lease.lockedAt === seen.locked_at &&
    (lease.activeAt === null || lease.activeAt === seen.last_activity_at) &&
    seen.expires_at >= lease.earliest && seen.expires_at <= lease.latest;
  if (!agree) return [];
  const known = { ...lease, earliest: seen.expires_at, latest: seen.expires_at };
  return [{ ...state, lease: { ...known, activeAt: seen.last_activity_at } }];
}

function fresh(call: Call, { id, token }: { id: string; token: number }, lockedAt: number): Lease {
  const expiresAt = lockedAt + call.ask.ttl! * 1e6;
  return {
    id,
    holder: call.holder,
    type: call.type,
    token,
    lockedAt,
    activeAt: lockedAt,
    earliest: expiresAt,
    latest: expiresAt,
  };
}

function agrees(
  lease: Lease,
  seen: {
    lock_holder_user_id: string;
    fencing_token: number;
    locked_at: number;
    expires_at: number;
  },
): boolean {
  return lease.holder === seen.lock_holder_user_id && lease.token === seen.fencing_token &&
    lease.lockedAt === seen.locked_at && seen.expires_at >= lease.earliest &&
    seen.expires_at <= lease.latest;
}

function renew(context: Context, state: LockState, call: Call, name: string): LockState[] {
  const { ask, answer } = call;
  const { lease } = state;
  const own = lease?.id === ask.id && isTheirs(call, lease!) ? lease! : null;
  if (!answer) {
    if (!own) return [state];
    // it may have come at any time
    return [state, { ...state, lease: { ...own, latest: Infinity, activeAt: null } }];
  }
  if (!maySee(context, state, call)) return [];
  const now = answer.server_time!;
  if (answer.renewed) {
    const seen = leasesOf(answer).find((one) => one.database_name === name)!;
    const until = now + ask.ttl! * 1e6;
    const isRight = own && own.latest > now && own.token === seen.fencing_token &&
      own.lockedAt === seen.locked_at && seen.expires_at >= until &&
      seen.expires_at >= own.earliest &&
      (seen.expires_at === until || seen.expires_at <= own.latest);
    if (!isRight) return [];
    const kept = { ...own, earliest: seen.expires_at, latest: seen.expires_at };
    return [{ ...state, lease: { ...kept, activeAt: ask.active ? now : own.activeAt } }];
  }
  if (answer.database_name !== name) return [state];
  const grant = context.grants.get(ask.id!);
  const isTrue = {
    expired: () => own ? own.earliest <= now : hasEnded(context, state, ask.id, "expired"),
    cancelled: () => context.isCancelled(call),
    not_held: () => !own && !(grant && isTheirs(call, grant) && grant.token <= state.token),
  }[answer.reason!] ?? (() => hasEnded(context, state, ask.id, answer.reason));
  return isTrue() ? [state] : [];
}

function release(context: Context, state: LockState, call: Call, name: string): LockState[] {
  const { ask, answer } = call;
  const { lease } = state;
  const free = { ...state, lease: null };
  const concerns = lease !== null && (ask.id === undefined || lease.id === ask.id) &&
    (ask.force || isTheirs(call, lease) && (!ask.byHolder || lease.holder === call.holder));
  if (!answer) return concerns ? [state, free] : [state];
  // it does not say when it looked
  const canBeLapsed = lease !== null && lease.earliest <= call.returned!;
  if (answer.released) {
    const seen = leasesOf(answer).find((one) => one.database_name === name);
    if (!seen) return [concerns && canBeLapsed ? free : state];
    const grant = context.grants.get(seen.lock_id);
    const isKnown = grant?.endedAt === seen.released_at && grant.token === seen.fencing_token &&
      grant.reason === (ask.force && grant.reason !== "released" ? "force_released" : "released");
    if (!isKnown) return [];
    if (lease?.id === seen.lock_id) {
      return concerns && lease!.latest > seen.released_at ? [free] : [];
    }
    return ask.id === seen.lock_id && hasEnded(context, state, ask.id, grant!.reason!)
      ? [state]
      : [];
  }
  if (name !== call.names[0]) return [concerns && canBeLapsed ? free : state];
  const isTrue = {
    expired: () =>
      concerns && canBeLapsed || hasEnded(context, state, ask.id, "expired") ||
      ask.id === undefined && lease === null,
    cancelled: () => context.isCancelled(call) && !concerns,
    held_by_another: () => lease !== null && lease.latest > call.called && !concerns,
    not_held: () =>
      !concerns && (lease === null || canBeLapsed) ||
      canBeLapsed && ask.id === undefined && isCleanedUp(context, lease!, call),
  }[answer.reason!] ?? (() => hasEnded(context, state, ask.id, answer.reason));
  return isTrue() ? [concerns ? free : state] : [];
}

/** Whether a clean-up may have cleared a lease that had run out, before this call looked. */
function isCleanedUp({ history }: Context, lease: Lease, call: Call): boolean {
  return history.calls.some(({ op, called, returned }) =>
    op === "clean up" && called <= call.returned! + history.clockError &&
    (returned ?? Infinity) >= lease.earliest - history.clockError
  );
}

function write(context: Context, state: LockState, call: Call): LockState[] {
  const { ask, answer } = call;
  const { lease } = state;
  const isOwn = lease !== null && lease.token === ask.token &&
    (call.type === "server" || isTheirs(call, lease)) && maySee(context, state, call);
  const counted = { ...state, version: state.version + 1 };
  if (!answer) return isOwn ? [state, counted] : [state];
  const from = answer.started ?? call.called;
  const to = answer.checked ?? call.returned!;
  if (answer.code === "LOCK_NOT_HELD") {
    return !isOwn || lease!.earliest <= call.returned! ? [state] : [];
  }
  if (!isOwn || lease!.lockedAt > to || lease!.latest <= from) return [];
  if (call.op === "write") return [state];
  return answer.version === counted.version ? [counted] : [];
}
