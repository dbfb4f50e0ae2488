import { type Database, type Lab, type Session, videoId } from "./lab.ts";
import { cost, type Costs, overRounds, ratio, takeTurns } from "./measure.ts";
import { goal, type Section } from "./report.ts";

/** How much to measure. */
export interface GuardSize {
  rounds: number;
  /** One-row writes in a turn. */
  runs: number;
  /** Small rows that one statement writes. */
  rows: number;
}

const UNGUARDED = "public.bench_unguarded";
const GUARDED = "public.bench_guarded";
/** With triggers that look at nothing: what PostgreSQL itself takes to keep the rows of a statement for them. */
const LIMIT = "public.bench_limit";
const WIDE_ROWS = 20;
const WIDE_KB = 750;

/**
 * What the guard adds to a write: the same statements on a guarded table, and on one that is not.
 *
 * @param lab Where.
 * @param size How much.
 */
export async function guard(lab: Lab, size: GuardSize): Promise<Section> {
  await using database = await lab.database("guarded");
  const video = await videoId(database, 1);
  for (const table of [UNGUARDED, LIMIT, GUARDED]) await fill(database, table, video, size.rows);
  await database.owner.query(`select holdfast.guard('${GUARDED}', database => 'layout')`);
  await database.owner.query(EMPTY_TRIGGERS);
  const writers: (Session & { table: string })[] = [];
  for (const table of [UNGUARDED, LIMIT, GUARDED]) {
    writers.push({ table, ...await writer(database, video) });
  }
  const measure = (statement: (table: string) => string, runs = 1, undone = true) =>
    takeTurns(
      writers.map(({ table, pid, ask }) => ({
        name: table,
        pids: [pid],
        async run() {
          if (undone) await ask("begin");
          await ask(statement(table), video);
          if (undone) await ask("rollback");
        },
      })),
      { rounds: size.rounds, runs },
    );
  const many = size.rows.toLocaleString("en-US");
  return report([
    [
      "guard-insert",
      `insert of ${many} small rows`,
      await measure((table) =>
        `insert into ${table} (video_id, n, caption)
        select $1, n, 'a small row' from generate_series(${size.rows} + 1, 2 * ${size.rows}) n`
      ),
    ],
    [
      "guard-update",
      `update of ${many} small rows`,
      await measure((table) =>
        `update ${table} set caption = 'another' where video_id = $1 and n > 0`
      ),
    ],
    [
      "guard-delete",
      `delete of ${many} small rows`,
      await measure((table) => `delete from ${table} where video_id = $1 and n > 0`),
    ],
    [
      "guard-wide",
      `update of ${WIDE_ROWS} rows of ${WIDE_KB} kB`,
      await measure((table) =>
        `update ${table} set caption = 'another' where video_id = $1 and n < 0`
      ),
    ],
  ], [
    "guard-one",
    "upsert of one row",
    await measure(
      (table) =>
        `insert into ${table} (video_id, n, caption) values ($1, 0, 'one row')
        on conflict (video_id, n) do update set caption = excluded.caption`,
      size.runs,
      false,
    ),
  ]);
}

/** Makes a table with so many small rows, and some wide ones. */
async function fill(
  database: Database,
  table: string,
  video: string,
  rows: number,
): Promise<void> {
  await database.owner.query(`
    create table ${table} (
      video_id uuid not null references public.videos (id) on delete cascade,
      n integer not null,
      caption text not null,
      body jsonb,
      primary key (video_id, n)
    );
    grant select, insert, update, delete on ${table} to service_role`);
  await database.admin.query(
    `insert into ${table} (video_id, n, caption) select $1, n, 'a small row' from generate_series(1, ${rows}) n`,
    [video],
  );
  await database.admin.query(
    `insert into ${table}
    select $1, -n, 'a wide row', (
      select jsonb_build_object('n', n, 'text', string_agg(md5(random()::text), ''))
      from generate_series(1, ${WIDE_KB} * 1000 / 32)
    )
    from generate_series(1, ${WIDE_ROWS}) n`,
    [video],
  );
  await database.admin.query(`vacuum analyze ${table}`);
}

const EMPTY_TRIGGERS = `
  create function public.bench_nothing() returns trigger language plpgsql
  as $$ begin return null; end; $$;
  create trigger i after insert on ${LIMIT} referencing new table as new_rows
    for each statement execute function public.bench_nothing();
  create trigger u after update on ${LIMIT} referencing old table as old_rows new table as new_rows
    for each statement execute function public.bench_nothing();
  create trigger d after delete on ${LIMIT} referencing old table as old_rows
    for each statement execute function public.bench_nothing()`;

/** A connection of the lock's holder, whose requests carry the token. */
async function writer(database: Database, video: string): Promise<Session> {
  const session = await database.worker({ synchronous_commit: "off" });
  const token = await session.ask(
    `select acquire_lock($1, 'layout', 'worker-7', '00000000-0000-4000-8000-0000000000be', 3600)
      -> 'lock' ->> 'fencing_token'`,
    video,
  );
  await session.ask(
    "select set_config('request.headers', $1, false)",
    JSON.stringify({ "x-fencing-token": token }),
  );
  return session;
}

type Result = [id: string, what: string, costs: Record<string, Costs>];

function report(statements: Result[], one: Result): Section {
  const millis = (costs: Record<string, Costs>, table: string) =>
    cost(costs[table]!).map((micros) => micros / 1000);
  const added = (costs: Record<string, Costs>) => {
    const bare = millis(costs, UNGUARDED);
    return overRounds(millis(costs, GUARDED).map((ms, i) => ms - bare[i]!));
  };
  const [id, what, costs] = one;
  return {
    goals: [
      ...statements.map(([id, what, costs]) => {
        const times = ratio(cost(costs[GUARDED]!), cost(costs[UNGUARDED]!));
        const met = times.figure <= 1.2 || added(costs).figure <= 0.3;
        return {
          ...goal(id, `server CPU of a guarded ${what}, ÷ unguarded`, times),
          wanted: "≤ 1.2, or 0.3 ms more",
          met,
        };
      }),
      goal(id, `server CPU that the guard adds to an ${what}, ms`, added(costs), { atMost: 0.15 }),
    ],
    tables: [{
      id: "guard",
      columns: ["statement", "unguarded ms", "triggers that do nothing ms", "guarded ms"],
      rows: [...statements, one].map(([, what, costs]) => [
        what,
        overRounds(millis(costs, UNGUARDED)).figure,
        overRounds(millis(costs, LIMIT)).figure,
        overRounds(millis(costs, GUARDED)).figure,
      ]),
    }],
    plots: [],
    leftOut: [],
  };
}
