// Lets many callers do random things to few locks at the same time, and records what they did and were told.
import { type Clock, readClock } from "./clock.ts";
import { type Answer, type Call, type History, keyOf, leasesOf } from "./history.ts";
import { type Random, random } from "./random.ts";
import { microseconds } from "../support/lock_world.ts";
import { openSession, type Session } from "../support/race.ts";
import { newestHttpDoor } from "../support/doors.ts";
import { sql } from "../support/stack.ts";
import { newTenant, type User } from "../support/tenant.ts";

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
  /** Where the functions are that are called by SQL; default: the right ones. */
  schema?: string;
}

const NAMES = ["captions", "layout"];
const HOLDERS = ["worker-1", "worker-2", "worker-3"];
const CONTRACT = new Set(["PT400", "PT401", "PT403", "PT404", "PT412", "PT503"]);
const CODES: Record<string, string> = {
  PT400: "INVALID_REQUEST",
  PT403: "FORBIDDEN",
  PT404: "VIDEO_NOT_FOUND",
  PT412: "LOCK_NOT_HELD",
  PT503: "LOCK_BUSY",
};
/** What a caller sees whose connection or statement was ended: nobody knows what became of the call. */
const UNKNOWN = new Set([
  "57P01",
  "57014",
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "ECONNRESET",
  "EPIPE",
]);

/** An acquisition that callers know of, and use and misuse. */
interface Acquisition {
  id: string;
  names: string[];
  isSet: boolean;
  holder: string;
  type: Call["type"];
  token?: number;
}

type Intention = Pick<Call, "op" | "names" | "isSet" | "ask">;

/** Everything that the callers share. */
class Recording {
  calls: Call[] = [];
  pool: Acquisition[] = [];
  sessions: Session[] = [];
  http: Awaited<ReturnType<typeof newestHttpDoor>> | undefined;
  until = 0;
  constructor(
    readonly clock: Clock,
    readonly video: string,
    readonly tenants: [string, string],
    readonly schema: string,
    readonly writes: string,
  ) {}

  /** Sends a call and notes what came of it. */
  async call(
    who: { client: string; holder: string; type: Call["type"] },
    intention: Intention,
    send: () => Promise<Answer>,
  ): Promise<Call> {
    const call: Call = {
      n: this.calls.length,
      ...who,
      video: this.video,
      ...intention,
      called: this.clock.now(),
      returned: null,
      answer: null,
    };
    this.calls.push(call);
    try {
      call.answer = await send();
      call.returned = this.clock.now();
    } catch (error) {
      const { code = "" } = error as { code?: string };
      if (!UNKNOWN.has(code)) {
        call.returned = this.clock.now();
        call.answer = CONTRACT.has(code)
          ? { code: CODES[code]! }
          : { sqlstate: `${code} ${error}` };
        if (code === "55P03") call.answer = { reason: "busy" };
      }
    }
    return call;
  }

  remember(acquisition: Acquisition) {
    this.pool.push(acquisition);
    if (this.pool.length > 12) this.pool.shift();
  }
}

/**
 * Records a history.
 *
 * @param options For how long, who, and with which functions.
 * @returns The history.
 */
export async function record(options: RecordOptions): Promise<History> {
  const { seconds, seed, sqlClients = 7, httpClients = 2, schema = "holdfast" } = options;
  await using tenant = await newTenant();
  await using other = await newTenant();
  await using stack = new AsyncDisposableStack();
  const users = [await tenant.join("anna"), await tenant.join("ben")];
  await other.join("ben");
  const writes = `public.history_${crypto.randomUUID().replaceAll("-", "")}`;
  await sql.unsafe(`
    create table ${writes} (video_id uuid, database_name text, token bigint, n integer);
    grant insert on ${writes} to authenticated, service_role`);
  stack.defer(async () => void await sql.unsafe(`drop table ${writes}`));
  const clock = await readClock(sql);
  const recording = new Recording(clock, tenant.video, [tenant.id, other.id], schema, writes);
  recording.until = Date.now() + seconds * 1000;
  if (httpClients > 0) recording.http = await newestHttpDoor();
  const draw = random(seed);
  const clients = [
    ...Array.from({ length: sqlClients }, (_, i) => {
      const user = i < 2 ? users[i] : undefined;
      const session = stack.use(openSession(
        user ? { role: "authenticated", sub: user.id } : { role: "service_role" },
      ));
      recording.sessions.push(session);
      return sqlClient(recording, `sql ${i}`, session, user, random(draw.fraction() * 2 ** 32));
    }),
    ...Array.from(
      { length: httpClients },
      (_, i) => httpClient(recording, `http ${i}`, random(draw.fraction() * 2 ** 32)),
    ),
    owner(recording, stack.use(openSession()), random(draw.fraction() * 2 ** 32)),
  ];
  await Promise.all(clients);
  const after = await readClock(sql);
  const drift = Math.abs(after.now() - clock.now());
  return {
    seed,
    calls: recording.calls,
    ...await final(tenant.video, writes),
    members: { [tenant.id]: users.map(({ id }) => id), [other.id]: [users[1]!.id] },
    tenant: tenant.id,
    clockError: clock.error + drift,
  };
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
      )
    ) as final`,
    [video],
  );
  return row!.final;
}

/** What a caller may want, with how often. */
const WANTS = [
  { what: "acquire", weight: 10 },
  { what: "acquire again", weight: 3 },
  { what: "take over", weight: 2 },
  { what: "renew", weight: 5 },
  { what: "release", weight: 8 },
  { what: "release early", weight: 1 },
  { what: "release mine", weight: 1 },
  { what: "force", weight: 1 },
  { what: "advance", weight: 3 },
  { what: "write", weight: 5 },
] as const;

/** Makes up what a caller wants next. */
function intend(
  recording: Recording,
  who: { holder: string; type: Call["type"] },
  draw: Random,
): Intention & { id?: string } {
  const { what } = draw.one(WANTS);
  const known = recording.pool.length > 0 ? draw.one(recording.pool) : undefined;
  const mine = recording.pool.findLast((one) => one.holder === who.holder);
  // one's own mostly, somebody else's now and then
  const chosen = draw.chance(0.75) ? mine ?? known : known;
  const newest = {
    id: crypto.randomUUID(),
    ...draw.one([
      { names: ["layout"], isSet: false, weight: 5 },
      { names: ["captions"], isSet: false, weight: 3 },
      { names: ["layout", "captions"], isSet: true, weight: 1 },
    ]),
  };
  const ttl = draw.one([1, 1, 2, 60]);
  const { id, names, isSet } = chosen ?? newest;
  const key = { names, isSet };
  switch (what) {
    case "acquire":
      return acquireOf(newest, { ttl, queue: draw.one([0, 0, 1, 2]) });
    case "acquire again":
      return acquireOf({ id, names, isSet }, { ttl, queue: draw.one([0, 2]) });
    case "take over":
      return acquireOf({ ...newest, ...key }, { ttl, takeOver: true });
    case "renew":
      return { op: "renew", ...key, ask: { id, ttl, active: draw.chance(0.7) } };
    case "release":
      return { op: "release", ...key, ask: { id } };
    case "release early":
      recording.remember({ ...newest, ...who });
      return { op: "release", names: newest.names, isSet: newest.isSet, ask: { id: newest.id } };
    case "release mine":
      return { op: "release", ...key, ask: { byHolder: true } };
    case "force":
      if (who.type === "client") return { op: "release", ...key, ask: { id } };
      return {
        op: "release",
        ...key,
        ask: draw.chance(0.5) ? { force: true } : { id, force: true },
      };
    case "advance":
    case "write":
      return { op: what, names: [names[0]!], isSet: false, ask: { token: chosen?.token ?? 1 } };
  }
}

function acquireOf(
  { id, names, isSet }: { id: string; names: string[]; isSet: boolean },
  ask: Call["ask"],
): Intention {
  return { op: "acquire", names, isSet, ask: { id, takeOver: false, queue: 0, ...ask } };
}

/** The fields of a call, as the functions take them. */
function fieldsOf(video: string, holder: string, type: Call["type"], intention: Intention) {
  const { op, names, isSet, ask } = intention;
  const [name] = names;
  return {
    video_id: video,
    ...(isSet ? { database_names: names } : { database_name: name }),
    ...(ask.id ? { lock_id: ask.id } : {}),
    ...(ask.ttl ? { ttl_seconds: ask.ttl } : {}),
    ...(op === "acquire" && type === "server" || ask.byHolder
      ? { lock_holder_user_id: holder }
      : {}),
    ...(op === "acquire" ? { take_over: ask.takeOver, queue_seconds: ask.queue } : {}),
    ...(op === "renew" ? { active: ask.active } : {}),
    ...(ask.force ? { force: true } : {}),
    ...(ask.token ? { fencing_token: ask.token } : {}),
  };
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** One caller by SQL: plain calls, and calls inside longer transactions. */
async function sqlClient(
  recording: Recording,
  client: string,
  session: Session,
  user: User | undefined,
  draw: Random,
) {
  const type = user ? "client" as const : "server" as const;
  while (Date.now() < recording.until) {
    const holder = user?.id ?? draw.one(HOLDERS);
    const who = { client, holder, type };
    const intention = intend(recording, who, draw);
    const call = intention.op === "write"
      ? await guardedWrite(recording, who, intention, session, draw)
      : draw.chance(0.15)
      ? await inTransaction(recording, who, intention, session, draw)
      : await recording.call(who, intention, () => bySql(recording, who, intention, session));
    note(recording, call);
    if (call.returned === null) await session.run`rollback`.catch(() => {});
    await pause(draw.fraction() * 12);
  }
}

/** Remembers a grant, so that it is renewed, released, used; also by those who should not. */
function note(recording: Recording, { op, ask, names, isSet, holder, type, answer }: Call) {
  if (op !== "acquire" || answer?.reason === "ended") return;
  const [lease] = leasesOf(answer);
  const token = lease?.fencing_token;
  recording.remember({ id: ask.id!, names, isSet, holder, type, ...(token ? { token } : {}) });
}

async function bySql(
  { schema, video }: Recording,
  { holder, type }: { holder: string; type: Call["type"] },
  intention: Intention,
  session: Session,
): Promise<Answer> {
  const fn = intention.op === "advance" ? "advance_server_version" : `${intention.op}_lock`;
  const fields = fieldsOf(video, holder, type, intention);
  const given = Object.entries(fields);
  const order = PARAMETERS[fn as keyof typeof PARAMETERS];
  const [row] = await session.run.unsafe<{ answer: unknown }[]>(
    `select ${schema}.${fn}(${order.map((_, i) => `$${i + 1}`).join(", ")}) as answer`,
    order.map((name) => given.find(([field]) => field === name)?.[1] ?? null) as string[],
  );
  return inNumbers(
    typeof row!.answer === "number" ? { version: row!.answer } : row!.answer,
  ) as Answer;
}

const PARAMETERS = {
  acquire_lock:
    "video_id database_name lock_holder_user_id lock_id ttl_seconds take_over queue_seconds database_names"
      .split(" "),
  renew_lock: "video_id database_name lock_id ttl_seconds active database_names".split(" "),
  release_lock: "video_id database_name lock_id lock_holder_user_id force database_names".split(
    " ",
  ),
  advance_server_version: "video_id database_name fencing_token".split(" "),
};

/** The same call in a transaction that has begun long before, or goes on for long after; now and then behind a savepoint. */
async function inTransaction(
  recording: Recording,
  who: { client: string; holder: string; type: Call["type"] },
  intention: Intention,
  session: Session,
  draw: Random,
): Promise<Call> {
  const [before, after] = draw.one([[0, 40], [200, 0], [1100, 0], [20, 20]]) as [number, number];
  const isRolledBack = draw.chance(0.15);
  const call = await recording.call(who, intention, async () => {
    try {
      await session.run`begin`;
      await session.run`select pg_sleep(${before / 1000})`;
      if (draw.chance(0.3)) await session.run`savepoint here`;
      const answer = await bySql(recording, who, intention, session);
      await session.run`select pg_sleep(${after / 1000})`;
      await session.run.unsafe(isRolledBack ? "rollback" : "commit");
      return answer;
    } catch (error) {
      await session.run`rollback`;
      throw error;
    }
  });
  // what was rolled back has not happened; it only took part in the waiting
  if (isRolledBack && call.answer) {
    call.answer = { reason: "busy" };
  }
  return call;
}

/** Checks the token and writes, in one transaction that takes its time. */
async function guardedWrite(
  recording: Recording,
  who: { client: string; holder: string; type: Call["type"] },
  intention: Intention,
  session: Session,
  draw: Random,
): Promise<Call> {
  const { schema, video, writes } = recording;
  const [name] = intention.names;
  const [before, after] = draw.one([[0, 0], [0, 30], [0, 120], [1050, 30]]) as [number, number];
  const n = recording.calls.length;
  return await recording.call(who, intention, async () => {
    const run = session.run;
    const clock = async () => {
      const [row] = await run<{ us: string }[]>`
        select (extract(epoch from clock_timestamp()) * 1000000)::bigint as us`;
      return Number(row!.us);
    };
    try {
      await run`begin`;
      if (before > 0) await run`select pg_sleep(${before / 1000})`;
      const started = await clock();
      await run.unsafe(`select ${schema}.check_token($1, $2, $3, null)`, [
        video,
        name!,
        intention.ask.token!,
      ]);
      const checked = await clock();
      await run.unsafe(`insert into ${writes} values ($1, $2, $3, $4)`, [
        video,
        name!,
        intention.ask.token!,
        n,
      ]);
      await run`select pg_sleep(${after / 1000})`;
      const committing = await clock();
      await run`commit`;
      return { started, checked, committing };
    } catch (error) {
      await run`rollback`;
      throw error;
    }
  });
}

async function httpClient(recording: Recording, client: string, draw: Random) {
  while (Date.now() < recording.until) {
    const who = { client, holder: draw.one(HOLDERS), type: "server" as const };
    const intention = intend(recording, who, draw);
    if (intention.op === "write") continue;
    const fn = intention.op === "advance"
      ? "advance_server_version" as const
      : `${intention.op}_lock` as "acquire_lock" | "renew_lock" | "release_lock";
    const fields = fieldsOf(recording.video, who.holder, who.type, intention);
    const send = async () => {
      const answer = inNumbers(await recording.http!({}, fn, fields)) as Answer;
      return answer.code === "BUSY" ? { reason: "busy" } : answer;
    };
    // now and then twice at the same time, as a proxy may send it
    const twin = draw.chance(0.1)
      ? recording.call({ ...who, client: `${client} twin` }, intention, send)
      : null;
    note(recording, await recording.call(who, intention, send));
    await twin;
    await pause(draw.fraction() * 12);
  }
}

/** Does what happens around the locks: rows and videos come and go, somebody holds a row for long, connections end. */
async function owner(recording: Recording, session: Session, draw: Random) {
  const { video, tenants: [tenant, other] } = recording;
  const run = session.run;
  const who = { client: "owner", holder: "owner", type: "server" as const };
  const event = (op: Call["op"], names: string[], ask: Call["ask"], send: () => Promise<unknown>) =>
    recording.call(who, { op, names, isSet: false, ask }, async () => (await send(), {}));
  let owned = tenant;
  while (Date.now() < recording.until) {
    await pause(draw.fraction() * 120);
    const name = draw.one(NAMES);
    switch (draw.one(["row", "hold", "hold", "tenant", "video", "clean", "clean", "end"])) {
      case "row":
        await event(
          "delete row",
          [name],
          {},
          () =>
            run`delete from public.video_database_state where video_id = ${video} and database_name = ${name}`,
        );
        break;
      case "hold":
        // longer than anybody waits, now and then
        await run.begin(async (tx) => {
          await tx`
            select from public.video_database_state
            where video_id = ${video} and database_name = ${name} for update`;
          await tx`select pg_sleep(${draw.one([0.03, 0.1, 0.55])})`;
        });
        break;
      case "tenant":
        owned = owned === tenant ? other : tenant;
        await event(
          "change tenant",
          [],
          { tenant: owned },
          () => run`update public.videos set tenant_id = ${owned} where id = ${video}`,
        );
        break;
      case "video":
        await event(
          "delete video",
          [],
          {},
          () => run`delete from public.videos where id = ${video}`,
        );
        await pause(draw.fraction() * 30);
        await event("make video", [], { tenant: owned }, () =>
          run`
            insert into public.videos (id, tenant_id, storage_key, status)
            values (${video}, ${owned}, 'again', 'uploading')`);
        break;
      case "clean":
        await event("clean up", [], {}, () => run`select public.release_expired_locks()`);
        break;
      case "end":
        // a caller's connection, wherever it is
        await run`
          select pg_terminate_backend(pid) from pg_stat_activity
          where application_name like 'test-%' and state = 'active' and pid <> pg_backend_pid()
          order by random() limit 1`;
    }
  }
}

const TIMES = new Set(
  "locked_at last_activity_at expires_at released_at ended_at server_time".split(" "),
);

function inNumbers(json: unknown, name = ""): unknown {
  if (typeof json === "string" && TIMES.has(name)) return microseconds(json);
  if (Array.isArray(json)) return json.map((one) => inNumbers(one));
  if (json === null || typeof json !== "object") return json;
  return Object.fromEntries(Object.entries(json).map(([key, one]) => [key, inNumbers(one, key)]));
}

/** All locks of a history. */
export function locksOf({ calls: [call] }: History): string[] {
  return call ? NAMES.map((name) => keyOf(call, name)) : [];
}
