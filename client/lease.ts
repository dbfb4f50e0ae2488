import { Alarm, backOff, settlesWithin } from "./alarm.ts";
import type { Calls } from "./calls.ts";
import { isTemporary, type LockError, LockLostError } from "./errors.ts";
import { type Guardable, guardQuery } from "./guard.ts";
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
import type { World } from "./world.ts";

/** What a lease is made of. */
export interface LeaseParts {
  world: World;
  calls: Calls;
  key: Key;
  ttlSeconds: number;
  maxIdleSeconds: number | undefined;
  /** The answer that granted it, and when its request was sent, on the world's monotonic clock. */
  granted: GrantedAnswer;
  sentAt: number;
  /** Called once, when it is over. */
  over(reason: LostReason): Promise<void>;
  /** Asks who waits. */
  waiters(): Promise<string[]>;
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
  readonly name: string;
  readonly mode = "exclusive";
  readonly key: Key;
  /** Names this acquisition. */
  readonly lockId: string;
  /** Goes with every write; {@link guard} does it. */
  readonly fencingToken: number;
  /** What the service answered: times of the database's clock, and the versions in `state`. */
  readonly granted: GrantedAnswer;
  readonly #parts: LeaseParts;
  readonly #abort = new AbortController();
  readonly #alarm: Alarm;
  #waiting: Waiting = { length: 0, holders: [] };
  #deadline = -Infinity;
  #timer: unknown;
  #touchedAt: number;
  #renewedAt: number;
  #renewedAtWall: number;
  #failures = 0;
  #over = false;
  #ending: Promise<void> | undefined;
  #isOwnEnd = false;

  /** @ignore Made by the client. */
  constructor(parts: LeaseParts) {
    super();
    const { world, key, granted, sentAt } = this.#parts = parts;
    const locks = locksOf(granted);
    this.key = key;
    this.name = locks.map((lock) => lock.database_name).join();
    this.lockId = locks[0]!.lock_id;
    this.fencingToken = locks[0]!.fencing_token;
    this.granted = granted;
    this.#alarm = new Alarm(world);
    this.#touchedAt = this.#renewedAt = sentAt;
    this.#renewedAtWall = world.wall();
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
    return this.#over ? "lost" : this.#inDoubt ? "in doubt" : "held";
  }

  /** How long it is held at least if nothing more is heard, in seconds: less than until `expires_at`, never more. */
  get secondsLeft(): number {
    return this.#over ? 0 : Math.max(0, (this.#deadline - this.#parts.world.now()) / 1000);
  }

  /** Who waits for it, as of the last renewal. */
  get waiting(): Waiting {
    return this.#waiting;
  }

  /**
   * Makes a write of supabase-js one that the database refuses (`PT412`) unless this lease is live, and that is given up
   * as soon as the lease is lost, or after 15 seconds. It counts as a {@link touch}.
   *
   * @param query The write, before it is sent.
   * @returns The same query.
   */
  guard<Query extends Guardable>(query: Query): Query {
    return guardQuery(query, {
      lockId: this.lockId,
      fencingToken: this.fencingToken,
      signal: () => this.signal,
      sending: () => this.touch(),
      refused: () => this.wake(),
    });
  }

  /** Says that somebody is at work: `maxIdleSeconds` counts from now. */
  touch(): void {
    this.#touchedAt = this.#parts.world.now();
  }

  /**
   * Gives the lock back. It never rejects: what cannot be released ends by itself.
   *
   * @returns When the service has answered, or after five seconds.
   */
  async release(): Promise<void> {
    this.#isOwnEnd ||= !this.#over;
    await this.lose("released");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  /**
   * Stops keeping the lease, without releasing it. It lasts until its deadline; `locks.resume(handle)` takes it up.
   *
   * @returns Plain data, for `JSON.stringify` or `postMessage`.
   */
  detach(): LeaseHandle {
    this.#look();
    this.#abort.signal.throwIfAborted();
    const { lock_holder_user_id, lock_type } = locksOf(this.granted)[0]!;
    this.#isOwnEnd = true;
    this.lose("detached");
    return {
      key: this.key,
      lockId: this.lockId,
      fencingToken: this.fencingToken,
      ttlSeconds: this.#parts.ttlSeconds,
      holder: lock_type === "server" ? lock_holder_user_id : null,
    };
  }

  /** @ignore Renews now instead of later: something has happened. */
  wake(): void {
    this.#look();
    this.#alarm.ring();
  }

  /** @ignore Ends it here, for this reason. */
  lose(reason: LostReason, holder: Holder | null = null): Promise<void> {
    if (!this.#over) {
      this.#over = true;
      this.#parts.world.clearTimeout(this.#timer);
      this.#ending = this.#parts.over(reason);
      this.#alarm.ring();
      this.#abort.abort(new LockLostError(reason, holder));
      this.dispatchEvent(new Event("statechange"));
    }
    return this.#ending!;
  }

  /** @ignore Whether the callback itself ended it, so that its request goes on. */
  get isOwnEnd(): boolean {
    return this.#isOwnEnd;
  }

  get #inDoubt(): boolean {
    return this.#failures > 0 || this.#slept;
  }

  /** Some monotonic clocks stand still while a machine sleeps. The wall clock tells; a renewal settles it. */
  get #slept(): boolean {
    const { world, ttlSeconds } = this.#parts;
    return world.wall() - this.#renewedAtWall > ttlSeconds * 1000;
  }

  /** A timer may be late, after a sleep or in a hidden tab. Whoever asks is told the truth. */
  #look(): void {
    if (this.#over) return;
    const { world } = this.#parts;
    if (world.now() >= this.#deadline) this.lose("deadline");
    else if (this.#slept) this.#alarm.ring();
  }

  /** Moves the deadline, never backwards. */
  #extend(sentAt: number, answer: GrantedAnswer | RenewAnswer & { renewed: true }): void {
    const { world, ttlSeconds } = this.#parts;
    const ttl = ttlSeconds * 1000;
    // What was left when the database answered, by its own clock, counts from before it was asked. A margin is for clocks
    // that run unevenly and for timers that are late.
    const left = Math.min(
      ttl,
      ...locksOf(answer).map(({ expires_at }) =>
        Date.parse(expires_at) - Date.parse(answer.server_time)
      ),
    );
    this.#deadline = Math.max(this.#deadline, sentAt + left - this.#margin);
    world.clearTimeout(this.#timer);
    this.#timer = world.setTimeout(() => this.#look(), this.#deadline - world.now());
  }

  get #margin(): number {
    return Math.min(1000, this.#parts.ttlSeconds * 50);
  }

  async #keep(): Promise<void> {
    const { world, ttlSeconds } = this.#parts;
    const quarter = ttlSeconds * 250;
    while (!this.#over) {
      // with three quarters left; at once where the grant itself came late
      const pause = Math.max(100, this.#deadline + this.#margin - 3 * quarter - world.now());
      await this.#alarm.sleep(this.#failures ? backOff(world, this.#failures, quarter) : pause);
      if (this.#over) return;
      // an answer that takes longer is not waited for, but heard nevertheless
      if (!await settlesWithin(world, this.#renew(world.now()), quarter)) this.#fail();
    }
  }

  async #renew(sentAt: number): Promise<void> {
    const { calls, key, ttlSeconds, maxIdleSeconds = Infinity, world } = this.#parts;
    const active = sentAt - this.#touchedAt <= maxIdleSeconds * 1000;
    const lastHeard = this.#renewedAt;
    try {
      const answer = await calls.call("lock-renew", {
        ...key,
        lock_id: this.lockId,
        ttl_seconds: ttlSeconds,
        active,
      });
      if (this.#over) return;
      if (!answer.renewed) {
        if (answer.reason === "busy") this.#fail();
        else this.lose(answer.reason, answer.holder);
        return;
      }
      // never another's: an answer may be mixed up on its way
      if (
        !locksOf(answer).every((lock) =>
          lock.lock_id === this.lockId && lock.fencing_token === this.fencingToken
        )
      ) {
        return this.#fail();
      }
      this.#extend(sentAt, answer);
      this.#hear(sentAt, answer.queue.length);
      const idle = world.now() - this.#touchedAt > maxIdleSeconds * 1000;
      if (idle && answer.queue.length > 0) this.lose("idle");
    } catch (error) {
      // who is signed in again may still be in time
      const mayPass = isTemporary(error) || (error as LockError).code === "NOT_AUTHENTICATED";
      if (!mayPass) this.lose("forbidden");
      else if (this.#renewedAt === lastHeard) this.#fail();
    }
  }

  #hear(sentAt: number, length: number): void {
    const doubted = this.#inDoubt;
    this.#failures = 0;
    this.#renewedAt = Math.max(this.#renewedAt, sentAt);
    this.#renewedAtWall = this.#parts.world.wall();
    if (doubted) this.dispatchEvent(new Event("statechange"));
    if (length || this.#waiting.length) this.#tellWaiting(length);
  }

  async #tellWaiting(length: number): Promise<void> {
    this.#waiting = { length, holders: length ? await this.#parts.waiters() : [] };
    this.dispatchEvent(new Event("waiting"));
  }

  #fail(): void {
    if (this.#over) return;
    if (this.#failures++ === 0) this.dispatchEvent(new Event("statechange"));
  }
}
