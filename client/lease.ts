import { Alarm, backOff, type Instant, settlesWithin, takeTime } from "./alarm.ts";
import type { Calls } from "./calls.ts";
import { isTemporary, type LockError, LockLostError } from "./errors.ts";
import { type Guardable, guardQuery } from "./guard.ts";
import { readWaiters } from "./snapshot.ts";
import type {
  GrantedAnswer,
  Holder,
  Key,
  LeaseHandle,
  LeaseState,
  Lock,
  LostReason,
  RenewAnswer,
  Waiting,
} from "./types.ts";

/** What a lease is made of. */
export interface LeaseParts {
  readonly calls: Calls;
  readonly key: Key;
  readonly ttlSeconds: number;
  readonly maxIdleSeconds: number;
  /** Called once, when it is over. */
  endLease(reason: LostReason): Promise<void>;
}

/**
 * The locks of an answer.
 *
 * @param answer Says yes, to one name or to several.
 * @returns One, or those of a set.
 */
export function locksOf(answer: { lock: Lock } | { locks: Lock[] }): Lock[] {
  return "lock" in answer ? [answer.lock] : answer.locks;
}

/**
 * A lock that is held, and renewed by itself at a quarter of its length, until it is released or lost. Events:
 * `statechange` when `state` changes, `waiting` when `waiting` does.
 */
export class Lease extends EventTarget implements AsyncDisposable {
  /** The database's name; those of a set, with commas between them. */
  declare readonly name: string;
  readonly mode = "exclusive";
  declare readonly key: Key;
  /** Names this acquisition. */
  declare readonly lockId: string;
  /** Goes with every write; {@link guard} does it. */
  declare readonly fencingToken: number;
  /** What the service answered: times of the database's clock, and the versions in `state`. */
  declare readonly granted: GrantedAnswer;
  /** Who waits for it, as of the last renewal. */
  waiting: Waiting = { length: 0, holders: [] };
  /** @ignore Whether the callback itself ended it, so that its request goes on. */
  isOwnEnd = false;
  readonly #parts: LeaseParts;
  readonly #abort = new AbortController();
  readonly #alarm = new Alarm();
  /** On the monotonic clock. What counts is only ever how much time has passed. */
  #deadline = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #touchedAt: number;
  /** When the last renewal that counts was sent, on the wall clock; see {@link #slept}. */
  #renewedAt = 0;
  #failures = 0;
  #ending: Promise<void> | undefined;

  /** @ignore Made by the client. */
  constructor(parts: LeaseParts, granted: GrantedAnswer, sentAt: Instant) {
    super();
    const locks = locksOf(granted);
    const [{ lock_id, fencing_token }] = locks as [Lock];
    this.#parts = parts;
    this.key = parts.key;
    this.name = locks.map((lock) => lock.database_name).join();
    this.lockId = lock_id;
    this.fencingToken = fencing_token;
    this.granted = granted;
    this.#touchedAt = sentAt[0];
    this.#extend(sentAt, granted);
    this.#keep();
  }

  /** Aborts when the lease is over; its reason is a {@link LockLostError}. */
  get signal(): AbortSignal {
    this.#look();
    return this.#abort.signal;
  }

  /** Whether it is held, as far as can be known here. The database decides: see {@link guard}. */
  get state(): LeaseState {
    this.#look();
    return this.#ending ? "lost" : this.#failures || this.#slept ? "in doubt" : "held";
  }

  /** How long it is held at least without another renewal, in seconds: less than until `expires_at`, never more. */
  get secondsLeft(): number {
    return this.#ending ? 0 : Math.max(0, this.#deadline - performance.now()) / 1000;
  }

  /**
   * Makes a write of supabase-js one that the database refuses (`PT412`) unless this lease is live, and that is given up
   * as soon as the lease is lost, or after 15 seconds. It counts as a {@link touch}.
   *
   * @param query The write, before it is sent.
   * @returns The same query.
   */
  guard<Query extends Guardable>(query: Query): Query {
    return guardQuery(query, this);
  }

  /** Reports activity: `maxIdleSeconds` counts from now. */
  touch(): void {
    this.#touchedAt = performance.now();
  }

  /**
   * Gives the lock back. It never rejects: what cannot be released ends by itself.
   *
   * @returns When the service has answered, or after five seconds.
   */
  release(): Promise<void> {
    return this.#endHere("released");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  /**
   * Stops keeping the lease, without releasing it. It lasts until its deadline; `locks.resume(handle)` takes it up.
   *
   * @returns Plain data, for `JSON.stringify` or `postMessage`.
   * @throws {LockLostError} Where it is over.
   */
  detach(): LeaseHandle {
    this.signal.throwIfAborted();
    this.#endHere("detached");
    const { key, lockId, fencingToken, granted } = this;
    const { lock_holder_user_id, lock_type } = locksOf(granted)[0]!;
    return {
      key,
      lockId,
      fencingToken,
      ttlSeconds: this.#parts.ttlSeconds,
      holder: lock_type === "server" ? lock_holder_user_id : null,
    };
  }

  /** Renews now instead of later. Call it on news of this lock from elsewhere, so that a loss is known at once. */
  wake(): void {
    this.#look();
    this.#alarm.ring();
  }

  /** @ignore Ends it, for this reason. */
  lose(reason: LostReason, holder?: Holder | null): Promise<void> {
    if (!this.#ending) {
      clearTimeout(this.#timer);
      this.#ending = this.#parts.endLease(reason);
      this.#alarm.ring();
      this.#abort.abort(new LockLostError(reason, holder));
      this.#emit("statechange");
    }
    return this.#ending;
  }

  #endHere(reason: LostReason): Promise<void> {
    this.isOwnEnd ||= !this.#ending;
    return this.lose(reason);
  }

  #emit(type: string): void {
    this.dispatchEvent(new Event(type));
  }

  /** Some monotonic clocks stand still while a machine sleeps. The wall clock shows it; a renewal settles it. */
  get #slept(): boolean {
    return Date.now() - this.#renewedAt > this.#parts.ttlSeconds * 1000;
  }

  /** A timer may be late, after a sleep or in a hidden page. A caller that looks gets the truth. */
  #look(): void {
    if (performance.now() >= this.#deadline) this.lose("deadline");
    else if (this.#slept) this.#alarm.ring();
  }

  /** Takes note of a grant or a renewal. The deadline never moves backwards. */
  #extend([sentAt, wall]: Instant, answer: GrantedAnswer | RenewAnswer & { renewed: true }): void {
    const ttl = this.#parts.ttlSeconds * 1000;
    // What was left when the database answered, by its own clock, counts from before it was asked. The margin is for clocks
    // that run unevenly and for timers that are late.
    const left = Math.min(
      ...locksOf(answer).map((lock) =>
        Date.parse(lock.expires_at) - Date.parse(answer.server_time)
      ),
      ttl,
    );
    const deadline = sentAt + left - Math.min(1000, ttl / 20);
    if (deadline < this.#deadline) return; // never backwards
    this.#deadline = deadline;
    this.#renewedAt = wall;
    this.#arm();
  }

  /** Looks at the deadline. A timer may be early as well as late, so it is armed until the lease is over. */
  #arm(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#look();
      if (!this.#ending) this.#arm();
    }, Math.max(1, this.#deadline - performance.now()));
  }

  async #keep(): Promise<void> {
    const quarter = this.#parts.ttlSeconds * 250;
    while (!this.#ending) {
      // with three quarters left; soon where the answer to the grant came late
      const pause = this.#failures
        ? backOff(this.#failures, quarter)
        : Math.max(quarter / 9, this.#deadline - 3 * quarter - performance.now());
      await this.#alarm.sleep(pause);
      // an answer that takes longer is not waited for, but still counts when it comes
      if (!this.#ending && !await settlesWithin(this.#renew(), quarter)) this.#fail();
    }
  }

  async #renew(): Promise<void> {
    const { calls, key, ttlSeconds, maxIdleSeconds } = this.#parts;
    const sentAt = takeTime();
    const isIdle = () => performance.now() - this.#touchedAt > maxIdleSeconds * 1000;
    try {
      const answer = await calls.call("lock-renew", {
        ...key,
        lock_id: this.lockId,
        ttl_seconds: ttlSeconds,
        active: !isIdle(),
      });
      if (this.#ending) return;
      if (answer.renewed) {
        this.#extend(sentAt, answer);
        this.#succeed(answer.queue.length);
        if (isIdle() && answer.queue.length) this.lose("idle");
      } else if (answer.reason === "busy") this.#fail();
      else this.lose(answer.reason, answer.holder);
    } catch (error) {
      // a user who signs in again may still be in time
      const mayPass = isTemporary(error) || (error as LockError).code === "NOT_AUTHENTICATED";
      if (mayPass) this.#fail();
      else this.lose("forbidden");
    }
  }

  #fail(): void {
    if (!this.#ending && !this.#failures++) this.#emit("statechange");
  }

  async #succeed(length: number): Promise<void> {
    const wasInDoubt = this.#failures;
    this.#failures = 0;
    if (wasInDoubt) this.#emit("statechange");
    if (!length && !this.waiting.length) return;
    this.waiting = {
      length,
      holders: length ? await readWaiters(this.#parts.calls.supabase, this.key) : [],
    };
    this.#emit("waiting");
  }
}
