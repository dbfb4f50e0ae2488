import { pause } from "../pause.ts";
import type { Arena, Room } from "./arena.ts";
import { baseBackup, startStandby } from "./copy.ts";
import type { Fault } from "./fault.ts";
import { restoreDump } from "./restore_dump.ts";
import { openRoute, type Route } from "./route.ts";
import { makeServer, type Server } from "./server.ts";

/** What cannot hold where acknowledged commits are lost. What has to hold all the same is the rest: tokens, guards, errors. */
const WHERE_COMMITS_ARE_LOST = [
  "what was acknowledged is kept",
  "the lock history is what callers were told",
  "no guarded write without its grant (P4)",
  "one lock_id, one grant (P5)",
  "what was cancelled is never granted (P5)",
  "nobody is overtaken in the line (P12)",
  "each lock is linearizable",
  "the client library lets go in time",
  // the lease that was lost was nobody's any more, for the database
  "no write after a newer grant was told (P4)",
];

interface Standby {
  server: Server;
  room: Room;
  route: Route;
}
const standbys = new WeakMap<Arena, Standby>();

async function makeStandby(arena: Arena, isSynchronous: boolean) {
  const { primary } = arena;
  const room = await arena.room();
  const server = await makeServer(room.directory, "copied");
  await baseBackup(primary, room.directory, false);
  const route = openRoute(primary.port);
  await startStandby(primary, server, route.port);
  if (isSynchronous) {
    await primary.ask("alter system set synchronous_standby_names = 'standby'");
    await primary.ask("select pg_reload_conf()");
    for (;; await pause(20)) {
      const [row] = await primary.ask("select sync_state from pg_stat_replication");
      if (row?.sync_state === "sync") break;
    }
  }
  standbys.set(arena, { server, room, route });
}

async function promote(arena: Arena) {
  const { server, route } = standbys.get(arena)!;
  standbys.delete(arena);
  // with it goes what was still on its way
  await arena.primary.kill("all");
  await route[Symbol.asyncDispose]();
  await server.ask("select pg_promote()");
  await server.ask("alter system reset synchronous_standby_names");
  await server.ask("select pg_reload_conf()");
  await arena.succeed(server);
}

const backups = new WeakMap<Arena, { server: Server; room: Room }>();

/** Faults that put another database in place of the first one. */
export const LOSSES: readonly Fault[] = [
  {
    name: "failover-sync",
    says: "kill -9 of the primary, failover to its synchronous standby: nothing may be lost",
    mixes: false,
    once: true,
    waives: [],
    prepare: (arena) => makeStandby(arena, true),
    async strike(arena, _, draw) {
      await pause(800 + draw.fraction() * 1500);
      await promote(arena);
    },
  },
  {
    name: "failover-async",
    says: "the same to an asynchronous standby that lags",
    mixes: false,
    once: true,
    waives: WHERE_COMMITS_ARE_LOST,
    prepare: (arena) => makeStandby(arena, false),
    async strike(arena, _, draw) {
      await pause(800 + draw.fraction() * 1000);
      standbys.get(arena)!.route.freeze(60_000, 1);
      await pause(150 + draw.fraction() * 400);
      await promote(arena);
    },
  },
  {
    name: "restore-backup",
    says: "a base backup taken under load is restored later, and callers return",
    mixes: false,
    once: true,
    waives: WHERE_COMMITS_ARE_LOST,
    async strike(arena, _, draw) {
      await pause(500 + draw.fraction() * 800);
      const room = await arena.room();
      const server = await makeServer(room.directory, "copied");
      await baseBackup(arena.primary, room.directory, true);
      backups.set(arena, { server, room });
      await pause(500 + draw.fraction() * 800);
      await arena.primary.kill("all");
      await server.start({}, {});
      await arena.succeed(server);
    },
  },
  {
    name: "restore-dump",
    says: "a dump taken under load is restored into a fresh database, and callers return",
    mixes: false,
    once: true,
    waives: WHERE_COMMITS_ARE_LOST,
    strike: restoreDump,
  },
];
