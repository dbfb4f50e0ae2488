import { Alarm, backOff, type Instant, settlesWithin, takeTime, timeSince } from "./alarm.ts";
import type { Calls } from "./calls.ts";
import { abortError, failure, isTemporary, type LockError, notAcquired } from "./errors.ts";
import { namesOf } from "./key.ts";
import { Lease, locksOf } from "./lease.ts";
import type { Order, Turn } from "./order.ts";
import { isHidden } from "./page.ts";
import type { GrantedAnswer, Key, LockOptions, LostReason, RefusedForNow } from "./types.ts";

/** What all acquisitions of one client share. */
export interface Shared {
  calls: Calls;
  order: Order<Acquisition>;
  /** The name that a worker gives itself; `undefined` for a user. */
  holder: string | undefined;
  /** An acquisition has come, changed hands or gone. */
  changed(ids: readonly string[]): void;
}

/** The longest pause between two tries: the service's advice cannot know of a release to come. In milliseconds. */
const LONGEST_PAUSE_MS = 5000;

/** How many tries a request that does not wait has, where one fails or finds the row `busy`. */
const TRIES = 4;

/** One try at a lock, from the request to the end of the lease. */
export class Acquisition implements Turn {
  declare readonly key: Key;
  declare readonly ids: readonly string[];
  declare readonly steals: boolean;
  /** New for each acquisition, and in memory only: a duplicated tab must not share it. */
  lockId: string = crypto.randomUUID();
  /** Once it is granted. */
  declare lease: Lease | undefined;
  isAsking = false;
  isEnding = false;
  declare answered: Promise<void> | undefined;
  declare readonly over: Promise<void>;
  /** What the service said last. */
  declare refusal: RefusedForNow | undefined;
  declare readonly calls: Calls;
  declare readonly maxIdleSeconds: number;
  readonly #shared: Shared;
  readonly #options: LockOptions;
  declare readonly ttlSeconds: number;
  readonly #abort = new AbortController();
  readonly #alarm = new Alarm();
  #answer!: () => void;
  #leave!: () => void;
  /** Whether there may be a lease or a place in the service. */
  #isOpen = false;
  /** Granted, refused or given up. */
  #isDecided = false;
  /** Why there was no answer to the last try. */
  #failure: unknown;

  constructor(shared: Shared, key: Key, options: LockOptions) {
    const { maxIdleSeconds = Infinity, steal = false, ttlSeconds = 60 } = options;
    this.#shared = shared;
    this.calls = shared.calls;
    this.maxIdleSeconds = maxIdleSeconds;
    this.key = { ...key };
    this.ids = namesOf(key).map((name) => `${key.video_id}/${name}`.toLowerCase());
    this.#options = options;
    this.steals = steal;
    this.ttlSeconds = ttlSeconds;
    this.answered = new Promise((resolve) => this.#answer = resolve);
    this.over = new Promise((resolve) => this.#leave = resolve);
  }

  /**
   * Waits for its turn, and acquires.
   *
   * @returns The lease; `null` with `ifAvailable` where it is not free.
   * @throws The signal's reason, or a {@link LockError}.
   */
  async acquire(): Promise<Lease | null> {
    const { changed, order } = this.#shared;
    const { ifAvailable, signal, waitSeconds = 60 } = this.#options;
    if (ifAvailable && order.about(this.ids).some(({ isEnding }) => !isEnding)) return null;
    order.turns = this.steals ? [this, ...order.turns] : [...order.turns, this];
    changed([]);
    const stop = () => this.cancel(signal!.reason);
    signal?.addEventListener("abort", stop);
    const late = new Alarm();
    // a first answer may take its time
    late.sleep(Math.max(1, waitSeconds) * 1000)
      .then(() => this.cancel(this.#failure ?? this.#inVain()));
    try {
      for (let before; (before = order.before(this)).length;) {
        before[0]!.then(() => this.#alarm.ring());
        await this.#pause(Infinity);
      }
      const lease = await this.#ask();
      if (!lease) await this.end();
      return lease;
    } catch (error) {
      this.end();
      throw error;
    } finally {
      this.#isDecided = true;
      signal?.removeEventListener("abort", stop);
      late.ring();
    }
  }

  /**
   * Stops waiting; after the grant it does nothing.
   *
   * @param reason What the request rejects with.
   */
  cancel(reason: unknown): void {
    if (!this.#isDecided) this.#abort.abort(reason);
    this.#alarm.ring();
  }

  /** Looks at once instead of later: something has happened. */
  wake(): void {
    this.#alarm.ring();
    this.lease?.wake();
  }

  /** Ends it in any state, though its caller did not. */
  async stop(): Promise<void> {
    this.cancel(abortError());
    await (this.lease ? this.lease.lose("released") : this.end());
  }

  /** The page is left, or the user signs out: all that can be done at once. */
  leave(): void {
    if (this.#isOpen) this.calls.leave({ ...this.key, lock_id: this.lockId });
    this.#isOpen = false;
    this.stop();
  }

  /**
   * Ends it, as its lease is over.
   *
   * @param reason How.
   * @returns As {@link end}.
   */
  endLease(reason: LostReason): Promise<void> {
    // of a set that has lost one lock the others may be held still
    this.#isOpen &&= reason !== "detached";
    return this.end();
  }

  /**
   * Gives back what the service may have given, and lets the next one have its turn.
   *
   * @returns When it is over, or after five seconds: it is tried further, but nobody has to wait for it.
   */
  end(): Promise<void> {
    if (!this.isEnding) {
      this.isEnding = true;
      this.#answered();
      settlesWithin(this.#release(), LONGEST_PAUSE_MS).then(() => {
        const { changed, order } = this.#shared;
        order.turns = order.turns.filter((turn) => turn !== this);
        changed(this.ids);
        this.#leave();
      });
    }
    return this.over;
  }

  /** Releases until it is answered, or the lease has run out by itself. */
  async #release(): Promise<void> {
    const until = performance.now() + this.ttlSeconds * 1000;
    const goesOn = () => this.#isOpen && performance.now() < until;
    if (!this.#isOpen) return;
    const request = { ...this.key, lock_id: this.lockId };
    await this.calls.persist("lock-release", request, goesOn).catch(() => {});
    this.#isOpen = false;
  }

  /** Waits until then, or for a {@link wake} or a {@link cancel}. */
  async #pause(ms: number): Promise<void> {
    await this.#alarm.sleep(ms);
    this.#abort.signal.throwIfAborted();
  }

  /** Asks until it is granted, refused for good, or given up. */
  async #ask(): Promise<Lease | null> {
    const { ifAvailable } = this.#options;
    let { force } = this.#options;
    let waits = !ifAvailable && !this.steals;
    this.isAsking = true;
    for (let tries = 1, failures = 0;; tries++) {
      const wasOpen = this.#isOpen;
      let pause: number;
      try {
        this.#isOpen = true;
        const sentAt = takeTime();
        const answer = await this.calls.call("lock-acquire", this.#body(waits), this.#abort.signal);
        if (answer.acquired) return this.#grant(answer, sentAt);
        failures = 0;
        this.#failure = undefined;
        // what became of an earlier try that got no answer is not known
        this.#isOpen = waits || wasOpen;
        if (answer.reason === "ended") {
          this.lockId = crypto.randomUUID();
          continue;
        }
        this.refusal = answer;
        pause = Math.min(answer.retry_after_ms, LONGEST_PAUSE_MS);
        if (!waits && (answer.reason !== "busy" || tries >= TRIES)) {
          if (ifAvailable) return null;
          if (!force) throw this.#inVain();
          const request = { ...this.key, force };
          await this.calls.persist("lock-release", request, () => !this.#abort.signal.aborted);
          // once only: those in line have the next turns, and are not to be forced out as well
          force = false;
          waits = true;
          continue;
        }
      } catch (error) {
        this.#abort.signal.throwIfAborted(); // by its very reason
        // 404: there are no such functions
        const isFinal = !isTemporary(error) || (error as LockError).status === 404;
        if (isFinal || !waits && tries >= TRIES) throw error;
        this.#failure = error;
        pause = backOff(++failures, LONGEST_PAUSE_MS);
      }
      this.#answered();
      await this.#pause(pause);
    }
  }

  #body(waits: boolean) {
    return {
      ...this.key,
      lock_id: this.lockId,
      lock_holder_user_id: this.#shared.holder,
      ttl_seconds: this.ttlSeconds,
      take_over: this.steals,
      // a place outlives the pause between two tries, which a hidden page's timers stretch to a minute
      queue_seconds: !waits ? 0 : isHidden() ? 60 : 15,
    };
  }

  #grant(granted: GrantedAnswer, sentAt: Instant): Lease {
    const { changed, order } = this.#shared;
    // Such an answer leaves too little of the lease. Asked again, the service says how much there really is.
    if (timeSince(sentAt) > this.ttlSeconds * 500) throw failure(0, "Late");
    for (const { lease } of order.about(this.ids)) lease?.lose("taken_over");
    this.lease = new Lease(this, granted, sentAt);
    this.#answered();
    if (this.steals) changed(this.ids);
    return this.lease;
  }

  /** Lets a steal or a query go on that waits for an answer. */
  #answered(): void {
    this.#answer();
    this.answered = undefined;
  }

  /** The error of having waited in vain. It names the holder: a request of this client, or another caller. */
  #inVain(): LockError {
    const [first = this] = this.#shared.order.about(this.ids);
    const lock = first.lease && locksOf(first.lease.granted)[0];
    const { holder, queue } = first.refusal ?? this.refusal ?? {};
    return lock
      ? notAcquired({ ...lock, last_activity_at: lock.locked_at, is_you: true })
      : notAcquired(holder, queue);
  }
}
