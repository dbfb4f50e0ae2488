import { pause } from "../pause.ts";
import { TROUBLES } from "../network.ts";
import type { Random } from "../random.ts";
import type { Arena } from "./arena.ts";
import { CLOCK } from "./clock_fault.ts";
import type { Fault } from "./fault.ts";
import { LOSSES } from "./losses.ts";
import { signal } from "./processes.ts";

/** The backends of callers, by SQL and over HTTP. */
async function backends({ primary }: Arena): Promise<number[]> {
  const rows = await primary.ask<{ pid: number }>(`
    select pid from pg_stat_activity
    where application_name like 'history-%' or application_name = 'data-api'`);
  return rows.map(({ pid }) => pid);
}

function some<T>(of: readonly T[], most: number, draw: Random): T[] {
  if (of.length === 0) return [];
  return Array.from({ length: 1 + Math.floor(draw.fraction() * most) }, () => draw.one(of));
}

/** Makes settings the default for every session, for a while. */
async function setFor(
  { primary }: Arena,
  [name, value]: readonly [string, string],
  milliseconds: number,
) {
  await primary.ask(`alter system set ${name} = '${value}'`);
  await primary.ask("select pg_reload_conf()");
  await pause(milliseconds);
  await primary.ask(`alter system reset ${name}`);
  await primary.ask("select pg_reload_conf()");
}

/** Everything that can go wrong here. */
export const FAULTS: readonly Fault[] = [
  {
    name: "kill",
    says: "kill -9 of PostgreSQL, of all its processes or of the postmaster alone; restart",
    mixes: true,
    waives: [],
    async strike(arena, _, draw) {
      await arena.primary.kill(draw.one(["all", "postmaster"]));
      await pause(draw.fraction() * 200);
      await arena.primary.start();
      await pause(600);
    },
  },
  {
    name: "backend",
    says: "kill -9 of one backend: PostgreSQL ends all sessions and recovers",
    mixes: true,
    waives: [],
    async strike(arena, _, draw) {
      for (const pid of some(await backends(arena), 1, draw)) signal(pid, "SIGKILL");
      await pause(800);
    },
  },
  {
    name: "stop",
    says:
      "SIGSTOP of backends, functions, clients in mid-call, for up to 1.5 s; frozen connections",
    mixes: true,
    waives: [],
    async strike(arena, _, draw) {
      const stopped = draw.one([
        some(await backends(arena), 3, draw),
        await arena.functions(),
        arena.clients,
      ]);
      const milliseconds = 30 + draw.fraction() ** 2 * 1500;
      if (draw.chance(0.3)) arena.route.freeze(milliseconds, 0.3);
      for (const pid of stopped) signal(pid, "SIGSTOP");
      await pause(milliseconds);
      for (const pid of stopped) signal(pid, "SIGCONT");
    },
  },
  {
    name: "function",
    says: "kill -9 of a function's process; it is served again half a second later",
    mixes: true,
    waives: [],
    async strike(arena, _, draw) {
      for (const pid of some(await arena.functions(), 1, draw)) signal(pid, "SIGKILL");
      await pause(1200);
    },
  },
  {
    name: "network",
    says:
      "HTTP calls dropped, late, doubled, reordered, hung up; connections to the database reset",
    mixes: true,
    waives: [],
    async strike(arena, recording, draw) {
      recording.trouble = (draw) => draw.chance(0.4) ? draw.one(TROUBLES) : "none";
      for (let i = 0; i < 4; i++) {
        await pause(draw.fraction() * 400);
        arena.route.cut("one");
      }
      if (draw.chance(0.2)) arena.route.cut("all");
      recording.trouble = () => "none";
    },
  },
  {
    name: "terminate",
    says: "pg_terminate_backend and pg_cancel_backend",
    mixes: true,
    waives: [],
    async strike(arena, _, draw) {
      for (const pid of some(await backends(arena), 3, draw)) {
        await arena.primary.ask(
          `select ${draw.one(["pg_terminate_backend", "pg_cancel_backend"])}(${pid})`,
        );
      }
      await pause(draw.fraction() * 150);
    },
  },
  {
    name: "isolation",
    says: "repeatable read and serializable as the database's default",
    mixes: true,
    waives: [],
    strike: (arena, _, draw) =>
      setFor(arena, [
        "default_transaction_isolation",
        draw.one(["repeatable read", "serializable"]),
      ], 300 + draw.fraction() * 1500),
  },
  {
    name: "timeouts",
    says: "statement, lock, transaction and idle time-outs of some milliseconds",
    mixes: true,
    waives: [],
    strike: (arena, _, draw) =>
      setFor(
        arena,
        draw.one(
          [
            ["statement_timeout", "8ms"],
            ["statement_timeout", "30ms"],
            ["transaction_timeout", "25ms"],
            ["lock_timeout", "3ms"],
            ["idle_in_transaction_session_timeout", "5ms"],
            ["idle_session_timeout", "10ms"],
          ] as const,
        ),
        200 + draw.fraction() * 1000,
      ),
  },
  {
    name: "pgbouncer",
    says: "PgBouncer (transaction mode, half of the SQL callers) restarted or killed",
    needs: "pgbouncer",
    mixes: true,
    waives: [],
    async strike(arena, _, draw) {
      await arena.bouncer!.restart(draw.one(["SIGINT", "SIGKILL"]));
      await pause(300 + draw.fraction() * 500);
    },
  },
  {
    name: "disk",
    says: "a full disk for half a second, for tables or for the write-ahead log",
    needs: "disk",
    mixes: true,
    waives: [],
    async strike(arena, _, draw) {
      const disk = arena.disk();
      if (!disk) return;
      const balloon = `${disk}/balloon`;
      await fill(balloon);
      // what was allocated before would last for longer: the write-ahead log goes on to new files, and every table gets larger
      const wants = draw.one([
        "select pg_switch_wal(), pg_logical_emit_message(true, 'fault', repeat('x', 100000)) from generate_series(1, 8)",
        "create table public.fault as select repeat(md5(i::text), 100) from generate_series(1, 9000) i",
      ]);
      await arena.primary.ask(wants).catch(() => {});
      await pause(200 + draw.fraction() * 500);
      await Deno.remove(balloon).catch(() => {});
      // the write-ahead log may have been what found no room: then PostgreSQL has gone down
      await arena.primary.start();
      await arena.primary.ask("drop table if exists public.fault").catch(() => {});
      await pause(500);
    },
    mend: async (arena) => await Deno.remove(`${arena.disk()}/balloon`).catch(() => {}),
  },
  CLOCK,
  ...LOSSES,
];

async function fill(path: string) {
  await new Deno.Command("dd", {
    args: ["if=/dev/zero", `of=${path}`, "bs=1M"],
    stdout: "null",
    stderr: "null",
  }).output();
}
