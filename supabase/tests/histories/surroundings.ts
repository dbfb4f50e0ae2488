// What happens around the locks, and makes it hard for them.
import type { ISql } from "postgres";
import type { Answer, Call } from "./history.ts";
import { pause } from "./pause.ts";
import type { Random } from "./random.ts";
import { NAMES, type Recording, type Who } from "./recording.ts";
import { bySql } from "./sql_client.ts";
import type { Session } from "../support/race.ts";

/** What happens around the locks, with how often. */
const EVENTS = [
  { what: "count", weight: 10 },
  { what: "clean", weight: 2 },
  { what: "end", weight: 2 },
  { what: "row", weight: 2 },
  { what: "tenant", weight: 1 },
  { what: "video", weight: 1 },
] as const;

/**
 * Rows and videos come and go, a server counts versions by itself, calls are cancelled.
 *
 * @param recording Takes it down.
 * @param session The owner's connection.
 * @param draw Decides.
 */
export async function owner(recording: Recording, session: Session, draw: Random) {
  const { video, tenants: [tenant, other] } = recording;
  const run = session.run;
  const who = { client: "owner", holder: "owner", type: "server" as const };
  const event = (op: Call["op"], names: string[], ask: Call["ask"], send: () => Promise<unknown>) =>
    recording.call(who, { op, names, isSet: false, ask }, async () => (await send(), {}));
  let owned = tenant;
  const make = () =>
    event("make video", [], { tenant: owned }, () =>
      run`
        insert into public.videos (id, tenant_id, storage_key, status)
        values (${video}, ${owned}, 'again', 'uploading')
        on conflict (id) do update set tenant_id = excluded.tenant_id`);
  const happen = async (name: string) => {
    switch (draw.one(recording.focus ? EVENTS.slice(0, 3) : EVENTS).what) {
      case "count":
        return await count(recording, who, (update) => update(run));
      case "row":
        return await event(
          "delete row",
          [name],
          {},
          () =>
            run`delete from public.video_database_state where video_id = ${video} and database_name = ${name}`,
        );
      case "tenant":
        owned = owned === tenant ? other : tenant;
        return await event(
          "change tenant",
          [],
          { tenant: owned },
          () => run`update public.videos set tenant_id = ${owned} where id = ${video}`,
        );
      case "video": {
        await event(
          "delete video",
          [],
          {},
          () => run`delete from public.videos where id = ${video}`,
        );
        await pause(draw.fraction() * 15);
        // a fault may be in the way
        for (let made = await make(); !made.answer || made.answer.reason; made = await make()) {
          if (Date.now() > recording.until + 5_000) return;
          await pause(20);
        }
        return;
      }
      case "clean":
        return await event(
          "clean up",
          [],
          {},
          () => run`select public.release_expired_locks()`,
        );
      case "end":
        // whatever one of the callers is doing: it did not happen
        return await run`
          select pg_cancel_backend(pid) from pg_stat_activity
          where application_name = ${draw.one(recording.sessions)}`;
    }
  };
  while (Date.now() < recording.until) {
    await pause(draw.fraction() * 40);
    await recording.attempt(() => happen(draw.one(NAMES)));
  }
}

/**
 * Makes others wait where it is tightest: between the read and the write of a call, by holding the table against writes;
 * or for one row, now and then longer than anybody waits.
 *
 * @param recording What is going on.
 * @param session The owner's connection.
 * @param draw Decides.
 */
export async function obstacle(recording: Recording, session: Session, draw: Random) {
  const { video, until } = recording;
  const who = { client: "obstacle", holder: "obstacle", type: "server" as const };
  const stand = async () => {
    const name = draw.one(["layout", "layout", "layout", ...NAMES]);
    // a lock that has just become free is what many want to write at once
    if (draw.chance(name === "layout" ? 0.65 : 0.2)) {
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
      return;
    }
    // and what they have read, the version, is old when they get to their write
    await count(recording, who, (update) =>
      session.run.begin(async (tx) => {
        await tx`lock table public.video_database_state in exclusive mode`;
        await tx`select pg_sleep(${seconds})`;
        return await update(tx);
      }));
  };
  while (Date.now() < until) {
    await pause(draw.fraction() * 40);
    await recording.attempt(stand);
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
