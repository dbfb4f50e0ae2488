import { App } from "@supabase/lite";
// @ts-types="@types/pg"
import pg from "pg";
import { databaseError } from "../rest/api_error.ts";
import { jsonTypes } from "../rest/json_types.ts";
import { LiteConnection } from "../rest/lite_connection.ts";

/** Where the Auth server keeps its users, and how it signs their tokens. */
export interface AuthApiOptions {
  /** For the role `supabase_auth_admin`, which owns the tables of the schema `auth`. */
  databaseUrl: string;
  /** Signs the tokens of users (HS256). */
  jwtSecret: string;
  /** The stack's own address. */
  url: string;
}

/** Sign-up, sign-in and sessions. */
export interface AuthApi {
  /** Answers a request below `/auth/v1`. */
  fetch(request: Request): Promise<Response>;
  close(): Promise<void>;
}

/**
 * Starts the Auth server of `@supabase/lite`. Whoever signs up is confirmed at once, as on the local Supabase.
 *
 * @param options See {@linkcode AuthApiOptions}.
 */
export function startAuthApi({ databaseUrl, jwtSecret, url }: AuthApiOptions): AuthApi {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: 5,
    connectionTimeoutMillis: 10_000,
    application_name: "auth",
    types: jsonTypes,
  });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  const app = authApp(new LiteConnection(pool), jwtSecret, url);
  return {
    async fetch(request) {
      try {
        (await pool.connect()).release(); // lite would log a missing database as an error of its own
      } catch (error) {
        const answer = databaseError(error, "anon");
        if (answer) return answer;
        throw error;
      }
      return await app.fetch(request);
    },
    close: () => pool.end(),
  };
}

/**
 * The tables that the Auth server needs.
 *
 * @returns SQL for the role that shall own them, in a database that has the schema `auth`.
 */
export async function authSchema(): Promise<string> {
  const nowhere = {
    connect: () => Promise.reject(new Error("not connected")),
    end: () => Promise.resolve(),
  };
  const connection = new LiteConnection(nowhere);
  connection.config.baseSchema = ""; // not lite's own auth.uid() and the like: the platform has Supabase's
  await authApp(connection, "unused", "http://127.0.0.1").init();
  return connection.config.baseSchema.replace(/create schema if not exists auth;/i, "");
}

function authApp(connection: LiteConnection, jwtSecret: string, url: string): App {
  return new App({
    connection,
    api: { enabled: false },
    storage: { enabled: false },
    db: { migrations: { enabled: false } },
    auth: {
      enabled: true,
      jwt_secret: jwtSecret,
      site_url: url,
      email: { enable_signup: true, enable_confirmations: false },
    },
  });
}
