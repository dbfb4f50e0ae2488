// Lets many callers do random things to few locks at the same time, and records what they did and were told.
import { type Clock, readClock } from "./clock.ts";
import type { Call, History } from "./history.ts";
import { httpClient } from "./http_client.ts";
import { random } from "./random.ts";
import { Recording } from "./recording.ts";
import { sqlClient } from "./sql_client.ts";
import { obstacle, owner } from "./surroundings.ts";
import { type Door, newestHttpDoor } from "../support/doors.ts";
import { openSession, type Session } from "../support/race.ts";
import { sql } from "../support/stack.ts";
import { newTenant } from "../support/tenant.ts";

/** What to record. */
export interface RecordOptions {
  /** For how long, in seconds. */
  seconds: number;
  /** Equal seeds, equal intentions; what comes of them depends on time. */
  seed: number;
  /** How many callers come by SQL. */
  sqlClients?: number;
  /** How many come over HTTP. */
  httpClients?: number;
  /** Keep to the locks without a line, or to those with one, and leave rows and videos where they are; default: everything. */
  focus?: "usual case" | "line" | undefined;
  /** Where the functions are that are called by SQL; default: the right ones. */
  schema?: string;
  /** Who lets faults loose; default: nobody. */
  world?: World;
}

/** Where callers meet faults. */
export interface World {
  /** Opens a caller's session; it must outlive the loss of its connection. */
  session(name: string, claims?: { role: "service_role" | "authenticated"; sub?: string }): Session;
  /** The way to the functions. */
  http: Door;
  /** Lets faults loose while callers call, and is done, with everything up again, when they are. */
  strike(recording: Recording, callers: Promise<unknown>): Promise<void>;
  /** Ends what was left half done, one way or the other, when all callers have stopped. */
  settle(recording: Recording): Promise<void>;
  /** Clients of the library, which run elsewhere: their calls, and what they believed. */
  library(
    recording: Recording,
  ): Promise<{ calls: Omit<Call, "n">[]; beliefs: History["beliefs"] }>;
}

/**
 * Records a history.
 *
 * @param options For how long, who, and with which functions.
 * @returns The history.
 */
export async function record(options: RecordOptions): Promise<History> {
  const { seconds, seed, sqlClients = 7, httpClients = 2, schema = "holdfast", world } = options;
  await using tenant = await newTenant();
  await using other = await newTenant();
  await using stack = new AsyncDisposableStack();
  const users = [await tenant.join("anna"), await tenant.join("ben")];
  await other.join("ben");
  const writes = await makeWrites(stack);
  const clock = await readClock(sql);
  const recording = new Recording({
    clock,
    video: tenant.video,
    tenants: [tenant.id, other.id],
    schema,
    writes,
    focus: options.focus,
    hasFaults: world !== undefined,
  });
  recording.until = Date.now() + seconds * 1000;
  if (httpClients > 0) recording.http = world?.http ?? await newestHttpDoor();
  const draw = random(seed);
  const own = () => random(draw.fraction() * 2 ** 32);
  const open: typeof openSession = (claims) => {
    if (!world) return stack.use(openSession(claims));
    return stack.use(world.session(`history-${crypto.randomUUID()}`, claims));
  };
  const sessions = Array.from({ length: sqlClients }, (_, i) => {
    const user = users[i];
    return {
      session: open(user ? { role: "authenticated", sub: user.id } : { role: "service_role" }),
      user,
    };
  });
  for (const { session: { run } } of sessions) {
    const [row] = await run<{ name: string }[]>`
      select current_setting('application_name') as name`;
    recording.sessions.push(row!.name);
  }
  const callers: Record<string, Promise<unknown>> = {
    owner: owner(recording, open(), own()),
    obstacle: obstacle(recording, open(), own()),
  };
  for (const [i, { session, user }] of sessions.entries()) {
    callers[`sql ${i}`] = sqlClient(recording, `sql ${i}`, session, user, own());
  }
  for (let i = 0; i < httpClients; i++) {
    callers[`http ${i}`] = httpClient(recording, `http ${i}`, own());
  }
  const library = world?.library(recording);
  const faults = world?.strike(recording, Promise.all(Object.values(callers)));
  await allInTime(recording.until, { ...callers, library, faults });
  await world?.settle(recording);
  const elsewhere = await library;
  for (const call of elsewhere?.calls ?? []) {
    recording.calls.push({ ...call, n: recording.calls.length });
  }
  return {
    seed,
    calls: recording.calls,
    ...await final(tenant.video, writes),
    beliefs: elsewhere?.beliefs ?? [],
    undecided: [],
    members: { [tenant.id]: users.map(({ id }) => id), [other.id]: [users[1]!.id] },
    tenant: tenant.id,
    clockError: await errorOf(clock),
  };
}

/** Waits for all who take part. None may hang: the longest call ends after ten seconds, and a fault is mended in less. */
async function allInTime(until: number, work: Record<string, Promise<unknown> | undefined>) {
  const pending = new Set(Object.keys(work));
  const all = Promise.all(
    Object.entries(work).map(async ([name, one]) => {
      await one;
      pending.delete(name);
    }),
  );
  let timer: ReturnType<typeof setTimeout>;
  const late = new Promise((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`these hang: ${[...pending]}`)),
      until + 30_000 - Date.now(),
    );
  });
  await Promise.race([all, late]).finally(() => clearTimeout(timer));
}

/** A table for guarded writes, whose rows say with which token. */
async function makeWrites(stack: AsyncDisposableStack): Promise<string> {
  const writes = `public.history_${crypto.randomUUID().replaceAll("-", "")}`;
  await sql.unsafe(`
    create table ${writes} (video_id uuid, database_name text, token bigint, n integer);
    grant insert on ${writes} to authenticated, service_role`);
  stack.defer(async () => void await sql.unsafe(`drop table ${writes}`));
  return writes;
}

/** How wrong a clock was, now that it can be compared once more. */
async function errorOf(clock: Clock): Promise<number> {
  const after = await readClock(sql);
  return clock.error + Math.abs(after.now() - clock.now());
}

/** What the database knows at the end. */
async function final(
  video: string,
  writes: string,
): Promise<Pick<History, "grants" | "cancelled" | "writes">> {
  const us = (column: string) => `(extract(epoch from ${column}) * 1000000)::bigint`;
  const [row] = await sql.unsafe<{ final: Pick<History, "grants" | "cancelled" | "writes"> }[]>(
    `select json_build_object(
      'grants', (
        select coalesce(json_agg(g), '[]') from (
          select video_id || ' ' || database_name as key, lock_id as id, lock_holder_user_id as holder, lock_type as type,
            fencing_token as token, ${us("locked_at")} as "lockedAt", ${
      us("ended_at")
    } as "endedAt",
            end_reason as reason, null::bigint as "expiresAt"
          from public.video_database_lock_history where video_id = $1
          union all
          select video_id || ' ' || database_name, lock_id, lock_holder_user_id, lock_type, fencing_token,
            ${us("locked_at")}, null, null, ${us("lock_expires_at")}
          from public.video_database_state where video_id = $1 and lock_id is not null
        ) g
      ),
      'cancelled', (
        select coalesce(json_agg(json_build_object('key', video_id || ' ' || database_name, 'id', lock_id,
          'type', lock_type, 'holder', lock_holder_user_id)), '[]')
        from holdfast.cancellation where video_id = $1
      ),
      'writes', (
        select coalesce(json_agg(json_build_object(
          'key', video_id || ' ' || database_name, 'token', token, 'n', n)), '[]') from ${writes}
        where video_id = $1
      )
    ) as final`,
    [video],
  );
  return row!.final;
}
