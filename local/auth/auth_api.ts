import { App } from "@supabase/lite";
// @ts-types="@types/pg"
import pg from "pg";
import type { Config } from "../config.ts";
import { databaseError } from "../rest/api_error.ts";
import { jsonTypes } from "../rest/json_types.ts";
import { LiteConnection } from "../rest/lite_connection.ts";

/** Where the Auth server keeps its users, and how it signs their tokens. */
export interface AuthApiOptions {
  /** For the role `supabase_auth_admin`, which owns the tables of the schema `auth`. */
  databaseUrl: string;
  /** Signs the tokens of users (HS256). */
  jwtSecret: string;
  /** The project's settings. */
  config: Config["auth"];
}

/** Sign-up, sign-in and sessions. */
export interface AuthApi {
  /** Answers a request below `/auth/v1`. */
  fetch(request: Request): Promise<Response>;
  close(): Promise<void>;
}

/**
 * Starts the Auth server of `@supabase/lite`.
 *
 * @param options See {@linkcode AuthApiOptions}.
 */
export function startAuthApi({ databaseUrl, jwtSecret, config }: AuthApiOptions): AuthApi {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: 5,
    connectionTimeoutMillis: 10_000,
    application_name: "auth",
    types: jsonTypes,
  });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  const app = authApp(new LiteConnection(pool), { jwt_secret: jwtSecret, ...config });
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
  await authApp(connection, { jwt_secret: "unused" }).init();
  return connection.config.baseSchema.replace(/create schema if not exists auth;/i, "");
}

function authApp(
  connection: LiteConnection,
  settings: { jwt_secret: string } & Partial<Config["auth"]>,
): App {
  const { jwt_secret, jwt_expiry, site_url, enable_signup = true, email } = settings;
  return new App({
    connection,
    api: { enabled: false },
    storage: { enabled: false },
    db: { migrations: { enabled: false } },
    auth: {
      enabled: true,
      jwt_secret,
      enable_signup,
      email: { enable_signup, enable_confirmations: email?.enable_confirmations ?? false },
      ...(jwt_expiry === undefined ? {} : { jwt_expiry }),
      ...(site_url === undefined ? {} : { site_url }),
    },
  });
}
