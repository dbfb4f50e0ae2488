import type { SupabaseClient } from "@supabase/supabase-js";

// The rules of locks, as docs and SQL have them, in virtual time: what no real database can be part of. Everything else is
// tested on the real stack.

/** What happens to one call: how long it is on its way, whether each way is lost, and what arrives twice. In milliseconds. */
export interface Way {
  there: number;
  back: number;
  loses?: "request" | "answer";
  /** The request arrives once more, so long after it was sent. */
  again?: number;
  /** The caller gets the last yes of this function to another client instead of its own answer, as behind a bad pooler. */
  mixedUp?: boolean;
}

interface Lease {
  lockId: string;
  holder: string;
  token: number;
  expiresAt: number;
}

/** One lock of a service. */
export class ModelLock {
  lease: Lease | undefined;
  /** How acquisitions ended, by their `lock_id`. */
  readonly ended = new Map<string, string>();
  readonly #places = new Map<string, number>();
  #token = 0;

  /** Who holds it now. */
  get current(): Lease | undefined {
    return this.lease && performance.now() < this.lease.expiresAt ? this.lease : undefined;
  }

  /**
   * Decides a request.
   *
   * @param name Name of the function.
   * @param holder Who calls.
   * @param body The request.
   * @returns The answer.
   */
  decide(name: string, holder: string, body: Record<string, unknown>): object {
    this.#lapse();
    const answer = name === "lock-acquire"
      ? this.#acquire(holder, body)
      : name === "lock-renew"
      ? this.#renew(holder, body)
      : this.#release(body);
    return { ...answer, server_time: iso(performance.now()) };
  }

  #lapse(): void {
    if (this.lease && !this.current) {
      this.ended.set(this.lease.lockId, "expired");
      this.lease = undefined;
    }
    for (const [id, until] of this.#places) if (until <= performance.now()) this.#places.delete(id);
  }

  #acquire(holder: string, body: Record<string, unknown>): object {
    const id = body.lock_id as string;
    const ended = this.ended.get(id);
    if (ended) return { acquired: false, reason: "ended", end_reason: ended, retry_after_ms: 0 };
    const isFirst = [...this.#places.keys()].every((other, i) => i > 0 || other === id);
    const mayTake = this.lease ? body.take_over && this.lease.holder === holder : isFirst;
    if (this.lease?.lockId !== id && mayTake) {
      if (this.lease) this.ended.set(this.lease.lockId, "taken_over");
      this.lease = {
        lockId: id,
        holder,
        token: ++this.#token,
        expiresAt: performance.now() + Number(body.ttl_seconds) * 1000,
      };
      this.#places.delete(id);
    }
    if (this.lease?.lockId === id) {
      return { acquired: true, lock: this.#lock(this.lease), state: {} };
    }
    const seconds = Number(body.queue_seconds);
    if (seconds > 0) this.#places.set(id, performance.now() + seconds * 1000);
    const position = [...this.#places.keys()].indexOf(id) + 1 || null;
    return {
      acquired: false,
      reason: this.lease ? "held" : "queued",
      holder: null,
      queue: { position, length: this.#places.size },
      retry_after_ms: position === 1 ? 150 : 400,
    };
  }

  #renew(holder: string, body: Record<string, unknown>): object {
    const id = body.lock_id as string;
    if (this.lease?.lockId !== id || this.lease.holder !== holder) {
      return { renewed: false, reason: this.ended.get(id) ?? "not_held", holder: null };
    }
    const expiresAt = performance.now() + Number(body.ttl_seconds) * 1000;
    this.lease.expiresAt = Math.max(this.lease.expiresAt, expiresAt);
    return { renewed: true, lock: this.#lock(this.lease), queue: { length: this.#places.size } };
  }

  #release(body: Record<string, unknown>): object {
    const id = body.lock_id as string;
    this.#places.delete(id);
    if (this.lease?.lockId === id) {
      this.ended.set(id, "released");
      this.lease = undefined;
    } else if (!this.ended.has(id)) this.ended.set(id, "cancelled");
    const reason = this.ended.get(id);
    return reason === "released"
      ? { released: true, lock: { lock_id: id } }
      : { released: false, reason, holder: null };
  }

  #lock({ lockId, holder, token, expiresAt }: Lease): object {
    return {
      database_name: "layout",
      lock_id: lockId,
      lock_holder_user_id: holder,
      lock_type: "server",
      fencing_token: token,
      expires_at: iso(expiresAt),
    };
  }
}

/** A service with the locks of one video. */
export class ModelService {
  /** How many calls there were, and how many of them were answered. */
  calls = 0;
  answered = 0;
  readonly #locks = new Map<string, ModelLock>();
  /** Who got a yes to what. */
  readonly #yes: { called: string; name: string; lockId: unknown; data: object }[] = [];

  /** @param way Decides the way of each call, by its number and by who calls. */
  constructor(private readonly way: (call: number, name: string) => Way) {}

  /**
   * One of its locks.
   *
   * @param database_name Which.
   * @returns The lock.
   */
  lock(database_name: string): ModelLock {
    const lock = this.#locks.get(database_name) ?? new ModelLock();
    this.#locks.set(database_name, lock);
    return lock;
  }

  /**
   * A client of supabase-js, as far as the lock client needs one.
   *
   * @param holder Whose.
   * @param name Separates clients of one holder.
   * @returns The client.
   */
  client(holder: string, name = holder): SupabaseClient {
    const rows = {
      select: () => rows,
      eq: () => rows,
      order: () => ({ data: [], error: null, status: 200 }),
    };
    return {
      functionsUrl: "http://model",
      accessToken: () => Promise.resolve(null),
      from: () => rows,
      functions: {
        invoke: (
          called: string,
          { body, signal }: { body: Record<string, unknown>; signal: AbortSignal },
        ) => this.#travel(called, { holder, name }, body, signal),
      },
    } as unknown as SupabaseClient;
  }

  #travel(
    called: string,
    { holder, name }: { holder: string; name: string },
    body: Record<string, unknown>,
    signal: AbortSignal,
  ) {
    const { there, back, loses, again, mixedUp } = this.way(this.calls++, name);
    const decide = () => this.lock(String(body.database_name)).decide(called, holder, body);
    return new Promise((resolve) => {
      signal.addEventListener("abort", () => resolve({ data: null, error: new Error("aborted") }));
      const fail = () => resolve({ data: null, error: new Error("reset") });
      if (again !== undefined) setTimeout(decide, again);
      setTimeout(() => {
        if (loses === "request") return fail();
        const own = decide();
        const other = this.#yes.findLast((last) =>
          last.called === called && last.name !== name && last.lockId !== body.lock_id
        );
        if ("lock" in own) this.#yes.push({ called, name, lockId: body.lock_id, data: own });
        const data = mixedUp && other ? other.data : own;
        setTimeout(() => {
          if (loses === "answer") return fail();
          this.answered++;
          resolve({ data, error: null });
        }, back);
      }, there);
    });
  }
}

/** The database's clock is another one than the clients': an hour ahead. */
const iso = (ms: number) => new Date(1_800_003_600_000 + ms).toISOString();
