import type { Answer, Call } from "./history.ts";
import { goOn } from "./go_on.ts";
import { acquireOf, fieldsOf, intend } from "./intend.ts";
import { pause } from "./pause.ts";
import type { Random } from "./random.ts";
import {
  type Acquisition,
  HOLDERS,
  inNumbers,
  type Intention,
  type Recording,
  type Who,
} from "./recording.ts";
import type { Session } from "../support/race.ts";
import type { User } from "../support/tenant.ts";

/**
 * One caller by SQL: plain calls, and calls inside longer transactions.
 *
 * @param recording Takes them down.
 * @param client The caller's name.
 * @param session The caller's connection.
 * @param user The user; none for a server.
 * @param draw Decides.
 */
export async function sqlClient(
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

/** What a caller mostly does with a grant: write, renew it, and give it back. Of a lock that nobody else wants, it believes in it for too long. */
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
  const renew = {
    op: "renew" as const,
    names,
    isSet,
    ask: { id, ttl: draw.one([1, 2]), active: draw.chance(0.5) },
  };
  if (draw.chance(0.2)) await inTransaction(recording, who, renew, session, draw);
  else if (draw.chance(0.3)) {
    await recording.call(who, renew, () => bySql(recording, who, renew, session));
  }
  if (token !== undefined && (isQuiet || draw.chance(0.25))) return;
  await pause(draw.fraction() * 10);
  const release = { op: "release" as const, names, isSet, ask: { id } };
  await recording.call(who, release, () => bySql(recording, who, release, session));
}

/**
 * Makes a call by SQL.
 *
 * @param recording Where and of which video.
 * @param who Who calls.
 * @param intention What they want.
 * @param session Their connection.
 * @returns The answer.
 */
export async function bySql(
  { schema, video }: Recording,
  { holder, type }: { holder: string; type: Call["type"] },
  intention: Intention,
  session: Session,
): Promise<Answer> {
  const fn = intention.op === "advance" ? "advance_server_version" : `${intention.op}_lock`;
  const fields = fieldsOf(video, holder, type, intention);
  // what it says is a value to PostgreSQL, whichever library sends it
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

/** How such a transaction ends. */
const ENDS = [
  { end: "commit", weight: 16 },
  { end: "rollback", weight: 3 },
  { end: "rollback to savepoint here", weight: 2 },
];

/** The same call in a transaction that has begun long before, or goes on for long after; now and then behind a savepoint. */
async function inTransaction(
  recording: Recording,
  who: Who,
  intention: Intention,
  session: Session,
  draw: Random,
): Promise<Call> {
  const [before, after] = draw.one(draw.chance(0.15) ? TIMINGS : TIMINGS.slice(0, -1));
  const end = draw.one(recording.hasFaults ? [...ENDS, { end: "prepare", weight: 2 }] : ENDS).end;
  const call = await recording.call(who, intention, async (call) => {
    try {
      await session.run`begin`;
      await session.run`select pg_sleep(${before / 1000})`;
      if (end !== "commit" || draw.chance(0.3)) await session.run`savepoint here`;
      // the call itself is sent now: whatever it tells must be of this time
      if (!recording.hasSnapshots) call.called = recording.clock.now();
      const answer = await bySql(recording, who, intention, session);
      if (end === "rollback to savepoint here") await session.run.unsafe(end);
      if (after > 0) await session.run`select pg_sleep(${after / 1000})`;
      if (end === "prepare") await inTwoPhases(session, draw);
      else await session.run.unsafe(end === "rollback" ? "rollback" : "commit");
      return answer;
    } catch (error) {
      await session.run`rollback`.catch(() => {});
      throw error;
    }
  });
  // what was rolled back has not happened; it only took part in the waiting
  if (end.startsWith("rollback") && call.answer) {
    call.answer = { reason: "undone" };
  }
  return call;
}

/** Prepares the transaction, and commits it a moment later; whoever finds it left behind may do so, too, or roll it back. */
async function inTwoPhases(session: Session, draw: Random) {
  const name = `history-${crypto.randomUUID()}`;
  await session.run.unsafe(`prepare transaction '${name}'`);
  await pause(draw.fraction() * 60);
  // from here on it does not matter to the transaction what becomes of its coordinator
  const gone = () => Object.assign(new Error("its coordinator is gone"), { code: "NO_ANSWER" });
  if (draw.chance(0.1)) throw gone();
  await session.run.unsafe(`commit prepared '${name}'`).catch(() => Promise.reject(gone()));
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
      await run`rollback`.catch(() => {});
      throw error;
    }
  });
}
