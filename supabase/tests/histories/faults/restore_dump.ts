// @ts-types="@types/pg"
import pg from "pg";
import { authSchema } from "../../../../local/auth/auth_api.ts";
import { prepareDatabase } from "../../../../local/postgres/prepare_database.ts";
import { pause } from "../pause.ts";
import type { Random } from "../random.ts";
import type { Recording } from "../recording.ts";
import type { Arena } from "./arena.ts";
import { makeServer, PASSWORD } from "./server.ts";

/**
 * Dumps the database under load, restores the dump into a fresh one a little later, and lets the callers go on there.
 *
 * @param arena Where.
 * @param _ What is being recorded.
 * @param draw Decides when.
 */
export async function restoreDump(arena: Arena, _: Recording, draw: Random): Promise<void> {
  const room = await arena.room();
  const server = await makeServer(room.directory);
  await server.start({}, {});
  await prepareDatabase(server.url, { password: PASSWORD, authSchema: await authSchema() });
  const text = await dump(arena.primary.url);
  await pause(300 + draw.fraction() * 600);
  // from here on nobody is answered until the restored one is there
  await arena.primary.kill("all");
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  try {
    await client.query(
      text.replace(/^(CREATE SCHEMA (public|auth);|COMMENT ON SCHEMA public .*)$/gm, ""),
    );
    await client.query("select * from holdfast.repair_privileges()");
  } finally {
    await client.end();
  }
  await arena.succeed(server);
}

/** In a process of its own: this pg_dump waits in place, and callers are to go on. */
async function dump(url: string): Promise<string> {
  const { stdout, success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${import.meta.dirname}/dump_process.ts`, url],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
