// Lets many callers do random things to few locks at the same time, and records what they did and were told.
import type { ISql } from "postgres";
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
  /** Keep to the locks without a line, or to those with one, and leave rows and videos where they are; default: everything. */
  focus?: "usual case" | "line" | undefined;
  /** Where the functions are that are called by SQL; default: the right ones. */
  schema?: string;
}

const NAMES = ["audio", "captions", "chapters", "layout"];
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
const UNKNOWN = new Set(["57014", "57P01", "CONNECTION_CLOSED"]);

/** An acquisition that callers know of, and use and misuse. */
interface Acquisition {
  id: string;
  names: string[];
  isSet: boolean;
  holder: string;
  type: Call["type"];
  token?: number;
}

/** Who makes a call. */
type Who = Pick<Call, "client" | "holder" | "type">;

type Intention = Pick<Call, "op" | "names" | "isSet" | "ask">;

/** Everything that the callers share. */
class Recording {
  calls: Call[] = [];
  /** Acquisitions that callers know of, by lock; the newest last. */
  pool = new Map<string, Acquisition[]>(NAMES.map((name) => [name, []]));
  /** The callers' sessions, by their process ids. */
  backends: number[] = [];
  http: Awaited<ReturnType<typeof newestHttpDoor>> | undefined;
  until = 0;
  constructor(
    readonly clock: Clock,
    readonly video: string,
    readonly tenants: [string, string],
    readonly schema: string,
    readonly writes: string,
    readonly focus: RecordOptions["focus"],
  ) {}

  /** Sends a call and notes what came of it. */
  async call(
    who: Who,
    intention: Intention,
    send: (call: Call) => Promise<Answer>,
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
      call.answer = await send(call);
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
    for (const name of acquisition.names) {
      const pool = this.pool.get(name)!.filter(({ id }) => id !== acquisition.id);
      this.pool.set(name, [...pool.slice(-11), acquisition]);
    }
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
  const recording = new Recording(
    clock,
    tenant.video,
    [tenant.id, other.id],
    schema,
    writes,
    options.focus,
  );
  recording.until = Date.now() + seconds * 1000;
  if (httpClients > 0) recording.http = await newestHttpDoor();
  const draw = random(seed);
  const sessions = Array.from({ length: sqlClients }, (_, i) => {
    const user = users[i];
    const session = openSession(
      user ? { role: "authenticated", sub: user.id } : { role: "service_role" },
    );
    return { session: stack.use(session), user };
  });
  for (const { session: { run } } of sessions) {
    const [row] = await run<{ pid: number }[]>`select pg_backend_pid() as pid`;
    recording.backends.push(row!.pid);
  }
  const clients = [
    ...sessions.map(({ session, user }, i) =>
      sqlClient(recording, `sql ${i}`, session, user, random(draw.fraction() * 2 ** 32))
    ),
    ...Array.from(
      { length: httpClients },
      (_, i) => httpClient(recording, `http ${i}`, random(draw.fraction() * 2 ** 32)),
    ),
    owner(recording, stack.use(openSession()), random(draw.fraction() * 2 ** 32)),
    obstacle(recording, stack.use(openSession()), random(draw.fraction() * 2 ** 32)),
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
  { what: "acquire", weight: 12 },
  { what: "acquire again", weight: 4 },
  { what: "take over", weight: 2 },
  { what: "renew", weight: 5 },
  { what: "release", weight: 12 },
  { what: "release early", weight: 1 },
  { what: "release mine", weight: 1 },
  { what: "force", weight: 1 },
  { what: "advance", weight: 2 },
  { what: "write", weight: 5 },
] as const;

/** What they want it of. */
const LOCKS = [
  { names: ["layout"], isSet: false, focus: "usual case", weight: 7 },
  // hardly anybody wants this one, so that its leases run out
  { names: ["audio"], isSet: false, focus: "usual case", weight: 2 },
  { names: ["captions"], isSet: false, focus: "line", weight: 3 },
  { names: ["captions", "chapters"], isSet: true, focus: "line", weight: 2 },
];

/** Makes up what a caller wants next. */
function intend(
  recording: Recording,
  who: { holder: string; type: Call["type"] },
  draw: Random,
): Intention {
  const { what } = draw.one(WANTS);
  const newest = {
    id: crypto.randomUUID(),
    ...draw.one(LOCKS.filter(({ focus }) => (recording.focus ?? focus) === focus)),
  };
  const pool = recording.pool.get(newest.names[0]!)!;
  // the grant that is probably held, or one's own last one, or any, be it somebody else's or long over
  const chosen = draw.one([
    { one: pool.findLast(({ token }) => token !== undefined), weight: 12 },
    { one: pool.findLast(({ holder }) => holder === who.holder), weight: 2 },
    { one: pool.length > 0 ? draw.one(pool) : undefined, weight: 3 },
  ]).one;
  // These locks see no line and no cancellation: only there the functions' usual case is taken.
  const isPlain = ["layout", "audio"].includes(newest.names[0]!);
  const ttl = draw.one([1, 1, 1, 2, 60]);
  const { id, names, isSet } = chosen ?? newest;
  const key = { names, isSet };
  switch (what) {
    case "acquire":
      return acquireOf(newest, { ttl, queue: isPlain ? 0 : draw.one([0, 1, 2]) });
    case "acquire again":
      return acquireOf({ id, ...key }, { ttl, queue: isPlain ? 0 : draw.one([0, 2]) });
    case "take over":
      return acquireOf({ ...newest, ...key }, { ttl, takeOver: true });
    case "renew":
      return { op: "renew", ...key, ask: { id, ttl, active: draw.chance(0.7) } };
    case "release":
      if (isPlain && chosen?.token === undefined) return acquireOf(newest, { ttl });
      return { op: "release", ...key, ask: { id } };
    case "release early":
      if (isPlain) return acquireOf(newest, { ttl });
      recording.remember({ ...newest, ...who });
      return { op: "release", names: newest.names, isSet: newest.isSet, ask: { id: newest.id } };
    case "release mine":
      return { op: "release", ...key, ask: { byHolder: true } };
    case "force":
      if (who.type === "client") return acquireOf(newest, { ttl });
      return {
        op: "release",
        ...key,
        ask: draw.chance(0.5) ? { force: true } : { id, force: true },
      };
    case "advance":
    case "write":
      return {
        op: what,
        names: [draw.one(names)],
        isSet: false,
        ask: { token: chosen?.token ?? 1 },
      };
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
    const plain = () =>
      recording.call(who, intention, () => bySql(recording, who, intention, session));
    const call = intention.op === "write"
      ? await guardedWrite(recording, who, intention, session, draw.one(WRITES))
      : draw.chance(0.3)
      ? await inTransaction(recording, who, intention, session, draw)
      : await plain();
    const mine = await goOn(recording, call, plain, draw);
    if (mine) await use(recording, who, mine, session, draw);
    // the acquire that its release overtook
    if (call.answer?.reason === "cancelled" && call.ask.id && draw.chance(0.5)) {
      const { id } = call.ask;
      const late = acquireOf({ id, names: call.names, isSet: call.isSet }, { ttl: 1, queue: 1 });
      const send = () => recording.call(who, late, () => bySql(recording, who, late, session));
      const ghost = await goOn(recording, await send(), send, draw);
      if (ghost) await use(recording, who, ghost, session, draw);
    }
    await pause(draw.fraction() * 4);
  }
}

/**
 * Remembers a grant, so that it is renewed, released and used, also by those who should not; and stays in the line, mostly.
 *
 * @param again Sends the same acquire again.
 */
async function goOn(
  recording: Recording,
  call: Call,
  again: () => Promise<Call>,
  draw: Random,
): Promise<Acquisition | undefined> {
  const { op, ask, names, isSet, holder, type } = call;
  if (op !== "acquire") return;
  const acquisition = { id: ask.id!, names, isSet, holder, type };
  let isInLine = false;
  for (let tries = 0, { answer } = call;; { answer } = await again()) {
    const token = leasesOf(answer)[0]?.fencing_token;
    isInLine ||= (answer?.queue?.position ?? null) !== null;
    if (token || isInLine || !answer) {
      recording.remember({ ...acquisition, ...(token ? { token } : {}) });
    }
    if (token) return { ...acquisition, token };
    if (!isInLine || answer?.reason === "ended" || Date.now() > recording.until) return;
    // most who have waited long enough say so; some die
    if (tries++ > 20) return acquisition;
    if (draw.chance(0.003)) return;
    await pause(draw.fraction() * 50);
  }
}

/** What a caller mostly does with a grant: write, and give it back. Of a lock that nobody else wants, it believes in it for too long. */
async function use(
  recording: Recording,
  who: Who,
  { id, names, isSet, token }: Acquisition,
  session: Session,
  draw: Random,
) {
  const isQuiet = names[0] === "audio";
  if (token !== undefined && draw.chance(isQuiet ? 0.8 : 0.3)) {
    const write = {
      op: "write" as const,
      names: [draw.one(names)],
      isSet: false,
      ask: { token: token! },
    };
    const timing = isQuiet ? [1050, 0] as const : draw.one(TIMINGS.slice(0, -1));
    await guardedWrite(recording, who, write, session, timing);
  }
  if (token !== undefined && (isQuiet || draw.chance(0.25))) return;
  await pause(draw.fraction() * 10);
  const release = { op: "release" as const, names, isSet, ask: { id } };
  await recording.call(who, release, () => bySql(recording, who, release, session));
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
  if (row!.answer === null) return { sqlstate: "no answer" };
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

/** For how long a transaction was open before its call, and stays open behind it, in milliseconds. */
const TIMINGS: [before: number, after: number][] = [
  [5, 0],
  [40, 0],
  [5, 0],
  [0, 10],
  [0, 40],
  [1050, 0],
];

/** Guarded writes mostly are quick, and now and then stay open for long. */
const WRITES: typeof TIMINGS = [...TIMINGS, [0, 0], [0, 0], [0, 20], [0, 60]];

/** The same call in a transaction that has begun long before, or goes on for long after; now and then behind a savepoint. */
async function inTransaction(
  recording: Recording,
  who: Who,
  intention: Intention,
  session: Session,
  draw: Random,
): Promise<Call> {
  const [before, after] = draw.one(draw.chance(0.15) ? TIMINGS : TIMINGS.slice(0, -1));
  const isRolledBack = draw.chance(0.15);
  const call = await recording.call(who, intention, async (call) => {
    try {
      await session.run`begin`;
      await session.run`select pg_sleep(${before / 1000})`;
      if (draw.chance(0.3)) await session.run`savepoint here`;
      // the call itself is sent now: whatever it tells must be of this time
      call.called = recording.clock.now();
      const answer = await bySql(recording, who, intention, session);
      if (after > 0) await session.run`select pg_sleep(${after / 1000})`;
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
  who: Who,
  intention: Intention,
  session: Session,
  [before, after]: readonly [before: number, after: number],
): Promise<Call> {
  const { schema, video, writes } = recording;
  const [name] = intention.names;
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
    const call = () => recording.call(who, intention, send);
    await goOn(recording, await call(), call, draw);
    await twin;
    await pause(draw.fraction() * 4);
  }
}

/** What happens around the locks, with how often. */
const EVENTS = [
  { what: "count", weight: 10 },
  { what: "clean", weight: 2 },
  { what: "end", weight: 2 },
  { what: "row", weight: 2 },
  { what: "tenant", weight: 1 },
  { what: "video", weight: 1 },
] as const;

/** Rows and videos come and go, a server counts versions by itself, connections end. */
async function owner(recording: Recording, session: Session, draw: Random) {
  const { video, tenants: [tenant, other] } = recording;
  const run = session.run;
  const who = { client: "owner", holder: "owner", type: "server" as const };
  const event = (op: Call["op"], names: string[], ask: Call["ask"], send: () => Promise<unknown>) =>
    recording.call(who, { op, names, isSet: false, ask }, async () => (await send(), {}));
  let owned = tenant;
  while (Date.now() < recording.until) {
    await pause(draw.fraction() * 40);
    const name = draw.one(NAMES);
    switch (draw.one(recording.focus ? EVENTS.slice(0, 3) : EVENTS).what) {
      case "count":
        await count(recording, who, (update) => update(run));
        break;
      case "row":
        await event(
          "delete row",
          [name],
          {},
          () =>
            run`delete from public.video_database_state where video_id = ${video} and database_name = ${name}`,
        );
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
        await pause(draw.fraction() * 15);
        await event("make video", [], { tenant: owned }, () =>
          run`
            insert into public.videos (id, tenant_id, storage_key, status)
            values (${video}, ${owned}, 'again', 'uploading')`);
        break;
      case "clean":
        await event("clean up", [], {}, () => run`select public.release_expired_locks()`);
        break;
      case "end":
        // whatever one of the callers is doing: nobody tells it what became of that
        await run`select pg_cancel_backend(${draw.one(recording.backends)})`;
    }
  }
}

/**
 * Makes others wait where it is tightest: between the read and the write of a call, by holding the table against writes;
 * or for one row, now and then longer than anybody waits.
 */
async function obstacle(recording: Recording, session: Session, draw: Random) {
  const { video, until } = recording;
  const who = { client: "obstacle", holder: "obstacle", type: "server" as const };
  while (Date.now() < until) {
    await pause(draw.fraction() * 60);
    const name = draw.one(["layout", "layout", "layout", ...NAMES]);
    // a lock that has just become free is what many want to write at once
    if (name === "layout" && draw.chance(0.7)) {
      const force = { op: "release" as const, names: [name], isSet: false, ask: { force: true } };
      await recording.call(who, force, () => bySql(recording, who, force, session));
    }
    const seconds = draw.chance(0.02) ? 0.5 : 0.005 + draw.fraction() * 0.02;
    if (draw.chance(0.3)) {
      await session.run.begin(async (tx) => {
        await tx`
          select from public.video_database_state
          where video_id = ${video} and database_name = ${name} for update`;
        await tx`select pg_sleep(${seconds})`;
      });
      continue;
    }
    // and what they have read, the version, is old when they get to their write
    await count(recording, who, (update) =>
      session.run.begin(async (tx) => {
        await tx`lock table public.video_database_state in exclusive mode`;
        await tx`select pg_sleep(${seconds})`;
        return await update(tx);
      }));
  }
}

/** A server counts a version by itself. */
async function count(
  recording: Recording,
  who: Who,
  run: (update: (sql: ISql) => Promise<Answer>) => Promise<Answer>,
) {
  const intention = { op: "count" as const, names: ["layout"], isSet: false, ask: {} };
  await recording.call(who, intention, () =>
    run(async (sql) => {
      const [row] = await sql<{ version: number }[]>`
        update public.video_database_state set server_version = server_version + 1
        where video_id = ${recording.video} and database_name = 'layout' returning server_version as version`;
      return row ? { version: row.version } : {};
    }));
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
