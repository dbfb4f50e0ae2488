// @ts-types="@types/pg"
import pg from "pg";
import { StackError } from "./stack_error.ts";

/**
 * Brings a PostgreSQL server to what a Supabase project has before its first migration. Does nothing to what exists.
 *
 * @param adminUrl A superuser's connection. Its password, or the one given, becomes that of the roles that are missing.
 * @param options.password The password of the roles that have to be made.
 * @param options.authSchema The SQL of the Auth server's own tables.
 * @throws {StackError} When the server cannot be reached or the user has no right to set it up.
 */
export async function prepareDatabase(
  adminUrl: string,
  { password, authSchema }: { password: string; authSchema: string },
): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl });
  client.on("error", () => {});
  try {
    await client.connect();
    const platform = await Deno.readTextFile(new URL("./platform.sql", import.meta.url));
    await client.query("begin");
    await client.query("select set_config('holdfast.password', $1, true)", [password]);
    await client.query(platform);
    const { rows } = await client.query("select to_regclass('auth.users') is null as missing");
    if (rows[0].missing) {
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
