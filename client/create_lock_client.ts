import type { SupabaseClient } from "@supabase/supabase-js";
import { Acquisition, type Shared } from "./acquisition.ts";
import { judge, readArguments, readOptions } from "./arguments.ts";
import { Calls } from "./calls.ts";
import { abortError, LockLostError, notSupported } from "./errors.ts";
import type { Lease } from "./lease.ts";
import { Order } from "./order.ts";
import { listen } from "./page.ts";
import { readViews, snapshotOf } from "./snapshot.ts";
import type { Key, LeaseHandle, LockOptions, LockSnapshot } from "./types.ts";
import { watchVideo } from "./watch.ts";

/** Which of the databases that a `forVideo` manager may name: the service's rule. */
const NAME = /^[a-z][a-z0-9_-]{0,62}$/;

/** A database without data: the holder of its lock resumes a lease of that video. */
const RESUME = "holdfast-resume";

/** Options of {@link createLockClient}. */
export interface LockClientOptions {
  /** The name that a worker gives itself; needed with the secret key, and only with it. */
  holder?: string;
}

/** The locks of one video, with the shape of `navigator.locks`: it satisfies lib.dom's `LockManager`. */
export interface VideoLocks {
  /** As `navigator.locks.request`; the name is a database's. It waits without a limit. */
  request<T>(name: string, callback: (lock: Lease | null) => T): Promise<Awaited<T>>;
  request<T>(
    name: string,
    options: LockOptions,
    callback: (lock: Lease | null) => T,
  ): Promise<Awaited<T>>;
  /** As `navigator.locks.query`, for this video. */
  query(): Promise<LockSnapshot>;
}

type Callback<L> = (lease: L) => unknown;

/** Locks for a project, with the shape of Web Locks. Made by {@link createLockClient}. */
export class LockClient {
  readonly #shared: Shared;
  #listening: ReturnType<typeof listen> | undefined;

  /** @ignore Made by {@link createLockClient}. */
  constructor(supabase: SupabaseClient, { holder }: LockClientOptions) {
    this.#shared = {
      calls: new Calls(supabase),
      order: new Order(),
      holder,
      changed: (ids) => this.#changed(ids),
    };
  }

  /**
   * Takes a lock, runs the callback while it is held, and releases it in every case.
   *
   * @param key Which lock; with `database_names` all of them or none.
   * @param options See {@link LockOptions}.
   * @param callback Gets the lease; `null` with `ifAvailable` where it is not free.
   * @returns What the callback returns.
   * @throws What the callback throws; an AbortError where the lease is lost meanwhile, even while the callback still runs,
   * with a {@link LockLostError} as its cause; the signal's reason; a `LockError` where it could not be acquired.
   */
  request<T>(key: Key, callback: (lease: Lease) => T): Promise<Awaited<T>>;
  request<T>(
    key: Key,
    options: LockOptions & { ifAvailable: true },
    callback: (lease: Lease | null) => T,
  ): Promise<Awaited<T>>;
  request<T>(key: Key, options: LockOptions, callback: (lease: Lease) => T): Promise<Awaited<T>>;
  async request(...args: unknown[]): Promise<unknown> {
    return await this.#run(...readArguments<Key, Callback<Lease | null>>(args));
  }

  /**
   * Takes a lock without a callback. The caller has to release the lease: `await using` does.
   *
   * @param key Which lock.
   * @param options See {@link LockOptions}.
   * @returns The lease; `null` with `ifAvailable` where it is not free.
   * @throws The signal's reason; a `LockError` where it could not be acquired.
   */
  acquire(key: Key, options: LockOptions & { ifAvailable: true }): Promise<Lease | null>;
  acquire(key: Key, options?: LockOptions): Promise<Lease>;
  async acquire(key: Key, given?: LockOptions): Promise<Lease | null> {
    return await this.#acquire(key, readOptions(given));
  }

  /**
   * Who holds and who waits, as far as the caller may see the video; this client's own requests at once.
   *
   * @param of The video.
   * @returns A snapshot, with the shape of Web Locks'.
   * @throws {LockError} Where it cannot be read.
   */
  async query({ video_id }: { video_id: string }): Promise<LockSnapshot> {
    const { calls, holder, order } = this.#shared;
    const own = () => order.turns.filter(({ key }) => key.video_id === video_id);
    // those that are being asked, not those that wait here
    await Promise.all(own().map(({ isAsking, answered }) => isAsking && answered));
    const views = await readViews(calls.supabase, video_id);
    const lock_type = holder === undefined ? "client" : "server";
    return snapshotOf(video_id, views, own(), holder ?? calls.user, lock_type);
  }

  /**
   * The locks of one video, with the shape of `navigator.locks`.
   *
   * @param video_id The video.
   * @returns What can stand where a `LockManager` is wanted.
   */
  forVideo(video_id: string): VideoLocks {
    const request = async (...args: unknown[]) => {
      const [name, options, callback] = readArguments<string, Callback<Lease | null>>(args);
      const database_name = `${name}`; // a symbol is a TypeError
      if (!NAME.test(database_name)) throw notSupported(`Names match ${NAME.source}`);
      const patient = { waitSeconds: Infinity, ...options };
      return await this.#run({ video_id, database_name }, patient, callback);
    };
    return { request: request as VideoLocks["request"], query: () => this.query({ video_id }) };
  }

  /**
   * Reports holders and waiters, at first and after each change: by Realtime where it answers, else by two requests
   * every five seconds.
   *
   * @param of The video.
   * @param callback Gets each snapshot.
   * @returns Stops watching.
   */
  watch(of: { video_id: string }, callback: (snapshot: LockSnapshot) => void): () => void {
    const { supabase } = this.#shared.calls;
    return watchVideo(supabase, of.video_id, () => this.query(of), callback);
  }

  /**
   * Takes up a lease that was detached, elsewhere or here. It goes on as a new acquisition with a new token, so of several
   * who try exactly one gets it.
   *
   * @param handle What `lease.detach()` gave.
   * @param options Its length and so on; those of the handle where left out.
   * @returns The lease.
   * @throws An AbortError whose cause is a {@link LockLostError} where it has ended, or has been resumed elsewhere.
   */
  async resume(
    { key, lockId, ttlSeconds, holder }: LeaseHandle,
    options: Pick<LockOptions, "ttlSeconds" | "maxIdleSeconds"> = {},
  ): Promise<Lease> {
    const { calls } = this.#shared;
    const shared = { ...this.#shared, holder: holder ?? undefined };
    // One at a time: between the question whether nobody has resumed it yet and the grant there must not be another one.
    const turn = { video_id: key.video_id, database_name: RESUME };
    return await this.request(turn, { ttlSeconds: 30 }, async (claim) => {
      const request = { ...key, lock_id: lockId, ttl_seconds: ttlSeconds };
      const answer = await calls.persist("lock-renew", request, () => !claim.signal.aborted);
      claim.signal.throwIfAborted();
      if (!answer.renewed) {
        throw abortError(new LockLostError(answer.reason as "not_held", answer.holder));
      }
      return (await this.#acquire(key, { ttlSeconds, ...options, steal: true }, shared))!;
    });
  }

  /** Releases all that is held and gives up all that waits; their requests reject with an AbortError. For signing out. */
  async releaseAll(): Promise<void> {
    await Promise.all(this.#shared.order.turns.map((turn) => turn.stop()));
  }

  async #acquire(key: Key, options: LockOptions, shared = this.#shared): Promise<Lease | null> {
    judge(options);
    return await new Acquisition(shared, key, options).acquire();
  }

  async #run(key: Key, options: LockOptions, callback: Callback<Lease | null>): Promise<unknown> {
    const lease = await this.#acquire(key, options);
    if (!lease) return await callback(null);
    return await new Promise((resolve, reject) => {
      const { signal } = lease;
      // a lost lock is reported at once, even while the callback still runs
      const broken = () => lease.isOwnEnd || reject(abortError(signal.reason));
      if (signal.aborted) return broken();
      signal.addEventListener("abort", broken);
      (async () => await callback(lease))().finally(() => lease.release()).then(resolve, reject);
    });
  }

  /** Listens while there is something to listen for, and notifies the other tabs. */
  #changed(ids: readonly string[]): void {
    const { calls, order } = this.#shared;
    const all = (what: "wake" | "leave") => () => order.turns.forEach((turn) => turn[what]());
    this.#listening ??= listen(calls, {
      wake: all("wake"),
      leave: all("leave"),
      hear: (ids) => order.about(ids).forEach((turn) => turn.wake()),
    });
    if (ids.length) this.#listening.notify(ids);
    if (!order.turns.length) this.#listening = void this.#listening.stop();
  }
}

/**
 * Makes a client for the locks of a project.
 *
 * @param supabase A client of supabase-js: a user's, or with the secret key a worker's.
 * @param options A worker says its name.
 * @returns The client.
 *
 * @example
 * ```ts ignore
 * const locks = createLockClient(supabase);
 * await locks.request({ video_id, database_name: "captions" }, async (lease) => {
 *   await lease.guard(supabase.from("captions").upsert(rows)).throwOnError();
 * });
 * ```
 */
export function createLockClient(
  supabase: SupabaseClient,
  options: LockClientOptions = {},
): LockClient {
  return new LockClient(supabase, options);
}
