import type { SupabaseClient } from "@supabase/supabase-js";
import { Alarm, backOff, settlesWithin } from "./alarm.ts";
import { failure, isTemporary, type LockError } from "./errors.ts";
import type {
  AcquireAnswer,
  AcquireRequest,
  ErrorBody,
  ReleaseAnswer,
  ReleaseRequest,
  RenewAnswer,
  RenewRequest,
} from "./types.ts";

/** The three functions, and what they take and answer. */
interface Functions {
  "lock-acquire": [AcquireRequest, AcquireAnswer];
  "lock-renew": [RenewRequest, RenewAnswer];
  "lock-release": [ReleaseRequest, ReleaseAnswer];
}

/** The field that says yes or no: `acquired`, `renewed`, `released`. */
const outcomeOf = (name: keyof Functions) => name.slice(5).replace(/e?$/, "ed");

/** What `invoke` gives. */
interface Result {
  // deno-lint-ignore no-explicit-any
  data?: any; // it came over the network
  error?: unknown;
}

/** Longer than a function takes at most: what has not come by then will not come. In milliseconds. */
const PATIENCE_MS = 12_000;

/** What supabase-js knows, and needs to be at hand where nothing can be awaited. */
interface Inside {
  supabaseKey: string;
  functionsUrl: URL;
  accessToken?: () => Promise<string | null>;
}

/** Calls the lock functions as `supabase.functions.invoke` does. */
export class Calls {
  declare readonly supabase: SupabaseClient;
  readonly #inside: Inside;
  #token: string | null = null;
  #refreshing: Promise<unknown> | undefined;

  constructor(supabase: SupabaseClient) {
    this.supabase = supabase;
    this.#inside = supabase as unknown as Inside;
  }

  /** Whether the client keeps a session itself; else the application brings the tokens. */
  get hasSession(): boolean {
    return !this.#inside.accessToken;
  }

  /** The user whose token was used last; an empty string with the secret key. */
  get user(): string {
    return subject(this.#token);
  }

  /** Where the functions are; names the service. */
  get url(): string {
    return String(this.#inside.functionsUrl);
  }

  /**
   * Takes note of a token, so that it is at hand.
   *
   * @param token The new one; with none, the last one is kept for a last call.
   */
  prepare(token: string | null | undefined): void {
    this.#token = token ?? this.#token;
  }

  /**
   * Calls a function, and again after a temporary failure or a `busy`, as often as it takes. Only for what is safe to
   * repeat.
   *
   * @param name Which one.
   * @param body The request.
   * @param goesOn Asked before each repetition.
   * @returns The answer.
   * @throws {LockError} The last failure.
   */
  async persist<F extends "lock-renew" | "lock-release">(
    name: F,
    body: Functions[F][0],
    goesOn: () => boolean,
  ): Promise<Functions[F][1]> {
    for (let failures = 1;; failures++) {
      try {
        const answer = await this.call(name, body);
        if ((answer as { reason?: string }).reason !== "busy" || !goesOn()) return answer;
      } catch (error) {
        if (!isTemporary(error) || !goesOn()) throw error;
      }
      await new Alarm().sleep(backOff(failures, 5000));
    }
  }

  /**
   * Calls a function. After a 401 the session is refreshed, and the call made once more.
   *
   * @param name Which one.
   * @param body The request.
   * @param signal Gives the call up; its reason is thrown.
   * @returns The answer, yes or no.
   * @throws {LockError} Where it could not be answered.
   */
  async call<F extends keyof Functions>(
    name: F,
    body: Functions[F][0],
    signal?: AbortSignal,
  ): Promise<Functions[F][1]> {
    try {
      return await this.#try(name, body, signal);
    } catch (error) {
      // or the signal's reason, which may be anything
      if ((error as LockError | null)?.code !== "NOT_AUTHENTICATED") throw error;
      if (this.hasSession) {
        // one for all calls that found out at the same time
        this.#refreshing ??= this.supabase.auth.refreshSession()
          .finally(() => this.#refreshing = undefined);
        await settlesWithin(this.#refreshing, PATIENCE_MS);
      }
      return await this.#try(name, body, signal);
    }
  }

  async #try<F extends keyof Functions>(
    name: F,
    body: Functions[F][0],
    signal?: AbortSignal,
  ): Promise<Functions[F][1]> {
    signal?.throwIfAborted();
    const abort = new AbortController();
    const end = new Alarm();
    const stop = () => {
      abort.abort();
      end.ring();
    };
    const call = async () => {
      await this.#remember().catch(() => {});
      const options = { body, signal: abort.signal };
      return await answerOf(name, body, await this.supabase.functions.invoke(name, options));
    };
    signal?.addEventListener("abort", stop);
    const answer = call();
    answer.catch(() => {}).then(() => end.ring());
    // not by the signal alone: what supabase-js does before it sends cannot be aborted
    await end.sleep(PATIENCE_MS);
    signal?.removeEventListener("abort", stop);
    stop();
    signal?.throwIfAborted();
    return await Promise.race([answer, Promise.reject(failure(0, name))]);
  }

  async #remember(): Promise<void> {
    const { accessToken } = this.#inside;
    this.prepare(
      accessToken
        ? await accessToken()
        : (await this.supabase.auth.getSession()).data.session?.access_token,
    );
  }

  /**
   * Releases at once, and without an answer: where a page is being left, `invoke` would not survive.
   *
   * @param body The request.
   */
  leave(body: ReleaseRequest): void {
    const { supabaseKey } = this.#inside;
    fetch(`${this.url}/lock-release`, {
      method: "POST",
      keepalive: true,
      headers: {
        apikey: supabaseKey,
        ...(this.#token && { authorization: `Bearer ${this.#token}` }),
        "content-type": "application/json",
      },
      body: JSON.stringify(body),
    }).catch(() => {}); // no caller is left; the lease ends by itself
  }
}

/** The answer, or why there is none. */
async function answerOf<F extends keyof Functions>(
  name: F,
  { lock_id }: { lock_id?: string | null | undefined },
  { data, error }: Result,
): Promise<Functions[F][1]> {
  const isAnswer = !error && typeof data?.[outcomeOf(name)] === "boolean";
  // never another's: answers may be mixed up on their way
  const locks = isAnswer && lock_id ? [data.lock, data.locks].flat() : [];
  if (isAnswer && locks.every((lock) => !lock || lock.lock_id === lock_id)) return data;
  const response = (error as { context?: Partial<Response> } | null)?.context;
  // the message of the error is always the same; the reason is in the body, which can be read once
  const body = await response?.json?.().catch(() => {}) as Partial<ErrorBody> | undefined;
  throw failure(response?.status ?? 0, body?.message ?? name, body);
}

/** Whose token it is: `sub` of its claims. It is shown, and never relied on. */
function subject(token: string | null): string {
  try {
    const claims = token!.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(claims)).sub ?? "";
  } catch {
    return "";
  }
}
