// @ts-types="@types/pg"
import pg from "pg";
import { StackError } from "../stack_error.ts";

/**
 * Brings a PostgreSQL server to what a Supabase project has before its first migration. Does nothing to what exists.
 *
 * @param adminUrl The server, as a superuser. On a database of Supabase's an ordinary user will do: there is nothing to do.
 * @param options.password The password of the roles that have to be made.
 * @param options.authSchema The SQL of the Auth server's own tables.
 * @throws {StackError} When the server cannot be reached or the user has no right to set it up.
 */
export async function prepareDatabase(
  adminUrl: string,
  { password, authSchema }: { password: string; authSchema: string },
): Promise<void> {
  const client = new pg.Client({
    connectionString: adminUrl,
    connectionTimeoutMillis: 10_000,
  });
  client.on("error", () => {});
  try {
    await client.connect();
    const { rows: [server] } = await client.query(`
      select
        current_setting('is_superuser')::bool as "mayPrepare",
        to_regclass('auth.users') is not null and to_regrole('authenticator') is not null as "isPrepared"
    `);
    if (!server.mayPrepare) {
      if (server.isPrepared) return; // a Supabase database, by its ordinary user
      throw new Error("its user is no superuser, and it has not been set up before");
    }
    const platform = await Deno.readTextFile(new URL("./platform.sql", import.meta.url));
    await client.query("begin");
    await client.query("select set_config('holdfast.password', $1, true)", [password]);
    await client.query(platform);
    if (!server.isPrepared) {
      await client.query("set local role supabase_auth_admin");
      await client.query(authSchema);
    }
    await client.query("commit");
  } catch (error) {
    throw new StackError(
      `The database could not be set up: ${error instanceof Error ? error.message : error}`,
    );
  } finally {
    await client.end();
  }
}
