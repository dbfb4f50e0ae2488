import type { SupabaseClient } from "@supabase/supabase-js";

// The rules of one lock, as docs and SQL have them, in virtual time: what no real database can be part of. Everything else is
// tested on the real stack.

/** What happens to one call: how long it is on its way, whether each way is lost, and what arrives twice. In milliseconds. */
export interface Way {
  there: number;
  back: number;
  loses?: "request" | "answer";
  /** The request arrives once more, so long after it was sent. */
  again?: number;
}

interface Lease {
  lockId: string;
  holder: string;
  token: number;
  expiresAt: number;
}

/** A service with one lock. */
export class ModelService {
  lease: Lease | undefined;
  /** How acquisitions ended that were not ended by time. */
  readonly ended = new Map<string, string>();
  readonly #places = new Map<string, number>();
  #token = 0;
  calls = 0;

  /** @param way Decides the way of each call, by its number. */
  constructor(private readonly way: (call: number, holder: string) => Way) {}

  /** Who holds it now. */
  get current(): Lease | undefined {
    return this.lease && performance.now() < this.lease.expiresAt ? this.lease : undefined;
  }

  /**
   * A client of supabase-js, as far as the lock client needs one.
   *
   * @param holder Whose.
   * @returns The client.
   */
  client(holder: string): SupabaseClient {
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
          name: string,
          { body, signal }: { body: Record<string, unknown>; signal: AbortSignal },
        ) => this.#travel(name, holder, body, signal),
      },
    } as unknown as SupabaseClient;
  }

  #travel(name: string, holder: string, body: Record<string, unknown>, signal: AbortSignal) {
    const { there, back, loses, again } = this.way(this.calls++, holder);
    return new Promise((resolve) => {
      signal.addEventListener("abort", () => resolve({ data: null, error: new Error("aborted") }));
      const fail = () => resolve({ data: null, error: new Error("reset") });
      if (again !== undefined) setTimeout(() => this.#decide(name, holder, body), again);
      setTimeout(() => {
        if (loses === "request") return fail();
        const data = this.#decide(name, holder, body);
        setTimeout(() => loses === "answer" ? fail() : resolve({ data, error: null }), back);
      }, there);
    });
  }

  #decide(name: string, holder: string, body: Record<string, unknown>): object {
    this.#lapse();
    const answer = name === "lock-acquire"
      ? this.#acquire(holder, body)
      : name === "lock-renew"
      ? this.#renew(body)
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
    const reason = this.lease ? "held" : "queued";
    const queue = { position, length: this.#places.size };
    return {
      acquired: false,
      reason,
      holder: null,
      queue,
      retry_after_ms: position === 1 ? 150 : 400,
    };
  }

  #renew(body: Record<string, unknown>): object {
    const id = body.lock_id as string;
    if (this.lease?.lockId !== id) {
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
      ? { released: true, lock: {} }
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

/** The database's clock is another one than the clients': an hour ahead. */
const iso = (ms: number) => new Date(1_800_003_600_000 + ms).toISOString();
