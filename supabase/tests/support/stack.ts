import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import type * as contract from "../../functions/_shared/contract.ts";

function env(name: string): string {
  const value = Deno.env.get(name);
  if (!value) {
    throw new Error(
      `${name} is not set. Run the tests with 'deno task test' (it starts a stack), or with 'deno task test:supabase'.`,
    );
  }
  return value;
}

/** Where the stack under test answers. */
export const url = env("SUPABASE_URL");
/** Its publishable key. */
export const publishableKey = env("SUPABASE_PUBLISHABLE_KEY");
/** Its secret key. */
export const secretKey = env("SUPABASE_SECRET_KEY");
/** Its database, as the owner of the tables. */
export const dbUrl = env("SUPABASE_DB_URL");

/** The owner's view of the database: for what a test arranges and looks up, never for what it tests. */
export const sql = postgres(dbUrl, { onnotice() {}, max: 4 });

const cleanUps: (() => Promise<unknown>)[] = [];

/**
 * Has something undone when the tests of this file are over.
 *
 * @param cleanUp Undoes it; run in reverse order.
 */
export function afterAll(cleanUp: () => Promise<unknown>): void {
  cleanUps.unshift(cleanUp);
}

Deno.test.afterAll(async () => {
  for (const cleanUp of cleanUps) await cleanUp();
  // a connection that a restart of PostgreSQL has cut may never say that it has ended
  await sql.end({ timeout: 1 });
});

/**
 * A supabase-js client, as an application has it.
 *
 * @param key Publishable or secret key.
 * @param token A user's access token.
 * @returns The client.
 */
export function client(key: string, token?: string): SupabaseClient {
  return createClient(url, key, {
    auth: { persistSession: false, autoRefreshToken: false },
    ...(token ? { accessToken: () => Promise.resolve(token) } : {}),
  });
}

/** A lease, as any answer shows it. */
export interface Lock extends contract.Lock, Partial<Pick<contract.ReleasedLock, "released_at">> {}

/** Any answer of the three functions; which fields are there depends on the answer. */
export interface Answer {
  acquired?: boolean;
  renewed?: boolean;
  released?: boolean;
  reason?: string;
  end_reason?: string;
  ended_at?: string;
  lock?: Lock;
  locks?: (Lock & { state?: contract.State })[];
  state?: contract.State;
  holder?: contract.Holder | null;
  queue?: { position?: number | null; length: number };
  database_name?: string;
  retry_after_ms?: number;
  server_time?: string;
  code?: string;
  message?: string;
  hint?: string;
  details?: contract.BrokenRule[];
}

/**
 * Calls a function as an application does, with `supabase.functions.invoke`.
 *
 * @param caller The caller's client.
 * @param name Name of the function.
 * @param body The request.
 * @returns Status and body of the answer, of any status.
 */
export async function invoke(
  caller: SupabaseClient,
  name: string,
  body: unknown,
): Promise<{ status: number; body: Answer; headers: Headers }> {
  const { data, error, response } = await caller.functions.invoke(name, {
    body: body as Record<string, unknown>,
  });
  if (!response) throw new Error(`${name} did not answer: ${error}`);
  return {
    status: response.status,
    body: error ? await response.json() : data,
    headers: response.headers,
  };
}

/** The body of a `lock-acquire`, `lock-renew` or `lock-release` that was answered. */
export type Call = (caller: SupabaseClient, body: Record<string, unknown>) => Promise<Answer>;

const answered = (name: string): Call => async (caller, body) => {
  const answer = await invoke(caller, name, body);
  if (answer.status !== 200) {
    throw new Error(`${name}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
  return answer.body;
};

/** Calls lock-acquire; throws where the request could not be answered. */
export const acquire: Call = answered("lock-acquire");
/** Calls lock-renew; throws where the request could not be answered. */
export const renew: Call = answered("lock-renew");
/** Calls lock-release; throws where the request could not be answered. */
export const release: Call = answered("lock-release");

/**
 * Calls one of the RPCs, as an application may do instead of calling the function.
 *
 * @param caller The caller's client.
 * @param name Name of the RPC.
 * @param body Its arguments, named as the function's fields.
 * @returns The answer.
 * @throws {Error} Where the request could not be answered.
 */
export async function rpc(
  caller: SupabaseClient,
  name: string,
  body: Record<string, unknown>,
): Promise<Answer> {
  const { data, error, status } = await caller.rpc(name, body);
  if (error) throw new Error(`${name}: ${status} ${JSON.stringify(error)}`);
  return data as Answer;
}
