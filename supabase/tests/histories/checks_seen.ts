// What has to hold by the order in which callers saw things, whatever the database's clock did meanwhile, and whatever a failover
// or a restore has lost.
import {
  type Call,
  type History,
  keyOf,
  leasesOf,
  type SeenLease,
  type Violation,
} from "./history.ts";

interface Told {
  call: Call;
  key: string;
  lease: SeenLease;
  /** When it was asked for first: the one who is told may only have repeated that. */
  asked: number;
}

/** Every grant, by the call that was told of it first. */
function grantsAsTold({ calls }: History): Told[] {
  const first = new Map<string, Told>();
  const asked = new Map<string, number>();
  for (const { op, ask, called } of calls) {
    if (op === "acquire") asked.set(ask.id!, Math.min(called, asked.get(ask.id!) ?? Infinity));
  }
  const answered = calls.filter(({ answer }) => answer?.acquired);
  for (const call of answered.sort((a, b) => a.returned! - b.returned!)) {
    for (const lease of leasesOf(call.answer)) {
      const key = keyOf(call, lease.database_name);
      const name = `${key} ${lease.fencing_token}`;
      if (first.has(name)) continue;
      first.set(name, { call, key, lease, asked: asked.get(lease.lock_id) ?? call.called });
    }
  }
  return [...first.values()];
}

/**
 * A caller who asks after another one was told of a grant, and is granted the lock, gets a higher token: also if that first
 * grant was lost since.
 *
 * @param history The history.
 * @returns Where it was not so.
 */
export function tokensGrowAsSeen(history: History): Violation[] {
  const highest = new Map<string, Told[]>();
  for (const told of grantsAsTold(history)) {
    highest.set(told.key, [...highest.get(told.key) ?? [], told]);
  }
  return [...highest.values()].flatMap((grants) => {
    const byCall = grants.toSorted((a, b) => a.asked - b.asked);
    let known = 0;
    let before: Told | undefined;
    return byCall.flatMap((later) => {
      // all that were told before this one was asked for
      for (; grants[known] && grants[known]!.call.returned! < later.asked; known++) {
        const { lease } = grants[known]!;
        if (!before || lease.fencing_token > before.lease.fencing_token) before = grants[known];
      }
      const isRight = !before || later.lease.fencing_token > before.lease.fencing_token;
      return isRight ? [] : [{
        what: "tokens grow as callers saw them (P4)",
        why: `${
          before!.lease.fencing_token
        } was told, and then ${later.lease.fencing_token} granted`,
        calls: [before!.call.n, later.call.n],
      }];
    });
  });
}

/**
 * What was written under a guard has the token of a grant that the database knows: also behind a failover or a restore.
 *
 * @param history The history.
 * @returns Where it was not so.
 */
export function writesHaveGrants(history: History): Violation[] {
  const known = new Set(history.grants.map(({ key, token }) => `${key} ${token}`));
  return history.writes.filter(({ key, token }) => !known.has(`${key} ${token}`)).map((write) => ({
    what: "what is written has its grant (P4)",
    why: `token ${write.token} was written with, and is no grant's`,
    calls: write.n === null ? [] : [write.n],
  }));
}

/**
 * Once somebody was told of a newer grant, nobody begins a guarded write with an older token and gets it through.
 *
 * @param history The history.
 * @returns Where it was not so.
 */
export function noWriteAfterNewerGrant(history: History): Violation[] {
  const grants = grantsAsTold(history);
  return history.calls.filter(({ op, answer }) => op === "write" && answer?.committing).flatMap(
    (write) => {
      const key = keyOf(write, write.names[0]!);
      const newer = grants.find(({ key: one, call, lease }) =>
        one === key && call.returned! < write.called && lease.fencing_token > write.ask.token!
      );
      return !newer ? [] : [{
        what: "no write after a newer grant was told (P4)",
        why:
          `call ${write.n} wrote with ${write.ask.token}, after ${newer.lease.fencing_token} was told`,
        calls: [newer.call.n, write.n],
      }];
    },
  );
}

/**
 * The client library believes in a lease no longer than the database does, unless somebody else ended it.
 *
 * @param history The history.
 * @returns Where it was not so.
 */
export function libraryLetsGo(history: History): Violation[] {
  return history.beliefs.flatMap(({ key, id, until }) => {
    const grant = history.grants.find((one) => one.key === key && one.id === id);
    const isOwnEnd = !grant?.reason || ["expired", "released"].includes(grant.reason);
    const end = grant && (grant.endedAt ?? grant.expiresAt!);
    if (!grant || !isOwnEnd || until <= end! + history.clockError) return [];
    return [{
      what: "the client library lets go in time",
      why: `${id} was believed to be held for ${
        until - end!
      } µs after it had ended (${grant.reason})`,
      calls: history.calls.filter(({ ask }) => ask.id === id).map(({ n }) => n),
    }];
  });
}
