import { Alarm, backOff, settlesWithin } from "./alarm.ts";
import type { Calls } from "./calls.ts";
import { abortError, isTemporary, LockError, notAcquired } from "./errors.ts";
import { Lease, locksOf } from "./lease.ts";
import type { Order, Turn } from "./order.ts";
import { isHidden } from "./page.ts";
import type { GrantedAnswer, Key, LockOptions, LostReason, RefusedForNow } from "./types.ts";
import type { World } from "./world.ts";

/** What all acquisitions of one client share. */
export interface Shared {
  world: World;
  calls: Calls;
  order: Order<Acquisition>;
  /** The name that a worker gives itself; `undefined` for a user. */
  holder: string | undefined;
  /** Tells the user's other tabs that something has become of these locks. */
  tell(ids: readonly string[]): void;
  /** Asks who waits for these locks. */
  waiters(key: Key): Promise<string[]>;
}

/** Names of the databases that a key names. */
export function namesOf(key: Key): string[] {
  return "database_names" in key ? key.database_names : [key.database_name];
}

/** How an acquisition ends without anything that could be given back. */
const NOTHING_LEFT: LostReason[] = [
  "taken_over",
  "force_released",
  "expired",
  "not_held",
  "cancelled",
  "detached",
];

const DEFAULT_TTL_SECONDS = 60;

/** At most so long between two tries, whatever the service advises: it cannot know of a release to come. */
const LONGEST_PAUSE_MS = 5000;

/** One try at a lock, from the request to the end of the lease. */
export class Acquisition implements Turn {
  readonly key: Key;
  readonly ids: readonly string[];
  readonly steals: boolean;
  phase: Turn["phase"] = "waiting";
  isAnswered = false;
  /** Once it is granted. */
  lease: Lease | undefined;
  /** New for each acquisition, and in memory only: a duplicated tab must not share it. */
  lockId: string = crypto.randomUUID();
  /** When the service, once asked, has said anything, or when it never will. */
  readonly answered: Promise<void>;
  begin!: () => void;
  #answer!: () => void;
  readonly #turn: Promise<void>;
  readonly #shared: Shared;
  readonly #options: LockOptions;
  readonly #abort = new AbortController();
  readonly #alarm: Alarm;
  /** Whether there may be a lease or a place in the service. */
  #isOpen = false;
  /** Granted, refused or given up. */
  #isDecided = false;
  #ending: Promise<void> | undefined;
  #refusal: RefusedForNow | undefined;

  constructor(shared: Shared, key: Key, options: LockOptions) {
    this.#shared = shared;
    this.key = key;
    this.ids = namesOf(key).map((name) => `${key.video_id}/${name}`.toLowerCase());
    this.#options = options;
    this.steals = !!options.steal;
    this.#alarm = new Alarm(shared.world);
    this.#turn = new Promise((resolve) => this.begin = resolve);
    this.answered = new Promise((resolve) => this.#answer = resolve);
  }

  /** Whether the service knows a place of it in the line. */
  get hasPlace(): boolean {
    return this.phase === "asking" && this.#refusal?.queue.position != null;
  }

  /**
   * Waits for its turn, and acquires.
   *
   * @returns The lease; `null` with `ifAvailable` where it is not free.
   * @throws The signal's reason, or a {@link LockError}.
   */
  async acquire(): Promise<Lease | null> {
    const { order, world } = this.#shared;
    const { ifAvailable, signal, waitSeconds = 60 } = this.#options;
    if (ifAvailable && order.isTaken(this.ids)) return null;
    const wait = waitSeconds * 1000;
    const until = world.now() + wait;
    const stop = () => this.cancel(signal!.reason);
    signal?.addEventListener("abort", stop);
    order.enter(this);
    // a last answer is waited for a little longer
    const late = new Alarm(world);
    late.sleep(wait + 1000).then(() => this.cancel(this.#inVain()));
    try {
      if (!await settlesWithin(world, this.#turn, wait)) throw this.#inVain();
      const lease = await this.#ask(until);
      if (!lease) await this.end();
      return lease;
    } catch (error) {
      this.end();
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
      this.#isDecided = true;
      late.ring();
    }
  }

  /**
   * Stops waiting; after the grant it does nothing.
   *
   * @param reason What the request rejects with.
   */
  cancel(reason: unknown): void {
    if (this.#isDecided) return;
    this.#abort.abort(reason);
    this.begin();
    this.#alarm.ring();
  }

  /** Looks at once instead of later: something has happened. */
  wake(): void {
    this.#alarm.ring();
    this.lease?.wake();
  }

  /** Ends it, whatever it is doing, as its caller did not. */
  async stop(): Promise<void> {
    this.cancel(abortError());
    await (this.lease?.lose("released") ?? this.end());
  }

  /** The page is left, or the user signs out: all that can be done at once. */
  leave(): void {
    if (this.#isOpen) this.#shared.calls.leave({ ...this.key, lock_id: this.lockId });
    this.#isOpen = false;
    this.stop();
  }

  /** Gives back what the service may have given, and lets the next one have its turn. */
  end(): Promise<void> {
    return this.#ending ??= this.#end();
  }

  async #end(): Promise<void> {
    const { order, tell, world } = this.#shared;
    this.phase = "ending";
    this.#answered();
    // who waits for the end does not wait for ever; it is tried further nevertheless
    if (this.#isOpen) await settlesWithin(world, this.#release(), LONGEST_PAUSE_MS);
    order.leave(this);
    tell(this.ids);
  }

  /** Releases until it is answered, or the lease has run out by itself. */
  async #release(): Promise<void> {
    const { calls, world } = this.#shared;
    const { ttlSeconds = DEFAULT_TTL_SECONDS } = this.#options;
    const until = world.now() + ttlSeconds * 1000;
    const request = { ...this.key, lock_id: this.lockId };
    await calls.persist("lock-release", request, () => this.#isOpen && world.now() < until)
      .catch(() => {}); // it ends by itself
    this.#isOpen = false;
  }

  /** Asks until it is granted, refused for good, given up, or `until` has come. */
  async #ask(until: number): Promise<Lease | null> {
    const { calls, world } = this.#shared;
    const isPatient = !this.#options.ifAvailable && !this.steals;
    for (let tries = 1, failures = 0;; tries++) {
      this.#abort.signal.throwIfAborted();
      const sentAt = world.now();
      let pause: number;
      let error: unknown;
      try {
        const wasOpen = this.#isOpen;
        this.#isOpen = true;
        const answer = await calls.call("lock-acquire", this.#body(isPatient), this.#abort.signal);
        if (answer.acquired) return this.#grant(answer, sentAt);
        // what an earlier request without an answer has brought about is not known
        this.#isOpen = wasOpen || isPatient;
        failures = 0;
        if (answer.reason === "ended") {
          this.lockId = crypto.randomUUID();
          this.#isOpen = false;
          continue;
        }
        this.#refusal = answer;
        error = this.#inVain();
        pause = answer.retry_after_ms;
        if (answer.reason !== "busy" || tries > 3) {
          if (this.#options.ifAvailable) return null;
          if (this.steals && !(tries <= 3 && await this.#force())) throw error;
        }
      } catch (failure) {
        if (!isTemporary(failure) || !isPatient && tries > 3) throw failure;
        error = failure;
        pause = backOff(world, ++failures, LONGEST_PAUSE_MS);
      }
      this.#answered();
      const left = until - world.now();
      if (left <= 0) throw error;
      await this.#alarm.sleep(Math.min(pause, left, LONGEST_PAUSE_MS));
    }
  }

  #body(isPatient: boolean) {
    return {
      ...this.key,
      lock_id: this.lockId,
      lock_holder_user_id: this.#shared.holder,
      ttl_seconds: this.#options.ttlSeconds ?? DEFAULT_TTL_SECONDS,
      take_over: this.steals,
      // a place outlives the pause between two tries, which a hidden page's timers stretch to a minute
      queue_seconds: !isPatient ? 0 : isHidden() ? 60 : 15,
    };
  }

  /** With the right to, ends whatever lease there is. */
  async #force(): Promise<boolean> {
    if (this.#options.force) {
      await this.#shared.calls.call(
        "lock-release",
        { ...this.key, force: true },
        this.#abort.signal,
      );
    }
    return !!this.#options.force;
  }

  #grant(granted: GrantedAnswer, sentAt: number): Lease {
    const { calls, order, tell, waiters, world } = this.#shared;
    // never another's: an answer may be mixed up on its way
    if (!locksOf(granted).every(({ lock_id }) => lock_id === this.lockId)) {
      throw new LockError("NO_ANSWER", "The answer is another request's");
    }
    for (const other of order.about(this.ids)) {
      if (other !== this) other.lease?.lose("taken_over");
    }
    this.phase = "held";
    if (this.steals) tell(this.ids);
    this.lease = new Lease({
      world,
      calls,
      key: this.key,
      ttlSeconds: this.#options.ttlSeconds ?? DEFAULT_TTL_SECONDS,
      maxIdleSeconds: this.#options.maxIdleSeconds,
      granted,
      sentAt,
      over: (reason) => {
        if (NOTHING_LEFT.includes(reason)) this.#isOpen = false;
        return this.end();
      },
      waiters: () => waiters(this.key),
    });
    this.#answered();
    return this.lease;
  }

  /** Says so to who waits for it: a steal, a query. */
  #answered(): void {
    this.isAnswered = true;
    this.#answer();
    this.#shared.order.proceed();
  }

  /** The error of having waited in vain, which names who is in the way: another request of this client, or who else. */
  #inVain(): LockError {
    const [first = this] = this.#shared.order.about(this.ids);
    if (!first.lease) return notAcquired(first.#refusal ?? this.#refusal);
    const [lock] = locksOf(first.lease.granted);
    return notAcquired({ holder: { ...lock!, last_activity_at: lock!.locked_at, is_you: true } });
  }
}
