/// <reference lib="dom" />
import type { SupabaseClient } from "@supabase/supabase-js";

/** Somebody who waits in the line. */
export interface Waiter {
  position: number;
  id: string;
  type: "client" | "server";
  name: string;
  picture: string | null;
  since: string;
  /** When they asked the holder to hand over; and when the holder said "not yet". */
  asked_at: string | null;
  declined_at: string | null;
}

/** One database of a video: a row of the view `lock_board`. */
export interface BoardRow {
  video_id: string;
  title: string;
  status: string;
  tenant: string;
  database_name: "captions" | "layout";
  lock_id: string | null;
  holder_id: string | null;
  holder_type: "client" | "server" | null;
  holder_name: string | null;
  holder_picture: string | null;
  locked_at: string | null;
  ttl_seconds: number | null;
  seconds_left: number | null;
  seconds_idle: number | null;
  waiting: Waiter[];
  version: number;
  saved_at: string | null;
}

/** What is known of all locks that the user may see. */
export interface BoardState {
  rows: readonly BoardRow[];
  /** When the rows were asked for, on the page's own clock; 0 before the first answer. */
  askedAt: number;
  /** Since when there is no answer, in milliseconds since 1970. */
  troubleSince: number | null;
  isLive: boolean;
}

/** How soon the page has to know: while it waits or holds; while somebody looks at it; when nobody is there. */
export type Urgency = "at once" | "soon" | "whenever";

/** The pause between two looks, in milliseconds. README.md says what it comes to. */
const PAUSE_MS: Record<Urgency, number> = { "at once": 600, soon: 2000, whenever: 15_000 };
/** The same where Realtime answers: it does not tell of places in the line, or of a lease that runs out. */
const LIVE_PAUSE_MS: Record<Urgency, number> = { "at once": 5000, soon: 30_000, whenever: 30_000 };
/** After so long without a key, a click or a move nobody is there. In milliseconds. */
const AWAY_MS = 120_000;
/** What has not been answered by then has failed. In milliseconds. */
const PATIENCE_MS = 8000;
/** A Realtime that went away is tried again after so long. In milliseconds. */
const AGAIN_MS = 60_000;

/** The page's one look at all locks: by Realtime where it answers, by asking again where not. Events: `change`. */
export class Board extends EventTarget {
  state: BoardState = { rows: [], askedAt: 0, troubleSince: null, isLive: false };
  readonly #supabase: SupabaseClient;
  readonly #urgent = new Set<unknown>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #looks = 0;
  #answered = 0;
  #askedAt = 0;
  /** Realtime has reported a change since the last look. */
  #hasChanged = false;
  #lastInput = performance.now();
  #end: AbortController | undefined;

  /** @param supabase Who looks. */
  constructor(supabase: SupabaseClient) {
    super();
    this.#supabase = supabase;
  }

  /**
   * Begins to look.
   *
   * @returns Ends it.
   */
  start(): () => void {
    const end = this.#end = new AbortController();
    const { signal } = end;
    for (const type of ["keydown", "pointerdown", "pointermove", "focus"]) {
      addEventListener(type, () => this.#seen(), { signal, passive: true });
    }
    addEventListener("online", () => this.look(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.look(), { signal });
    this.#listen(signal);
    this.look();
    return () => {
      end.abort();
      clearTimeout(this.#timer);
    };
  }

  /** Looks now. Answers that come out of order are dropped. */
  async look(): Promise<void> {
    if (this.#end?.signal.aborted) return;
    clearTimeout(this.#timer);
    const mine = ++this.#looks;
    const askedAt = this.#askedAt = performance.now();
    this.#hasChanged = false;
    const { data, error } = await this.#supabase.from("lock_board").select()
      .order("title").order("database_name").abortSignal(AbortSignal.timeout(PATIENCE_MS));
    if (mine > this.#answered && !this.#end?.signal.aborted) {
      this.#answered = mine;
      const { troubleSince } = this.state;
      this.#set(
        error
          ? { troubleSince: troubleSince ?? Date.now() }
          : { rows: data as BoardRow[], askedAt, troubleSince: null },
      );
    }
    if (mine === this.#looks) this.#arm();
  }

  /**
   * Says that the page waits for something, or holds it, and has to know at once what becomes of it.
   *
   * @param who Anything that stands for it.
   * @param isUrgent Whether it does still.
   */
  hurry(who: unknown, isUrgent: boolean): void {
    if (isUrgent === this.#urgent.has(who)) return;
    if (isUrgent) this.#urgent.add(who);
    else this.#urgent.delete(who);
    this.look();
  }

  /**
   * One database of one video.
   *
   * @param video_id The video.
   * @param database_name The database.
   */
  row(video_id: string, database_name: string): BoardRow | undefined {
    return this.state.rows.find((row) =>
      row.video_id === video_id && row.database_name === database_name
    );
  }

  get #urgency(): Urgency {
    if (this.#urgent.size) return "at once";
    return performance.now() - this.#lastInput > AWAY_MS ? "whenever" : "soon";
  }

  #seen(): void {
    const wasAway = this.#urgency === "whenever";
    this.#lastInput = performance.now();
    if (wasAway) this.look();
  }

  /** A page that nobody sees asks nothing: what it holds, the lock client keeps; it looks at once when it is shown. */
  #arm(): void {
    clearTimeout(this.#timer);
    if (document.hidden || this.#end?.signal.aborted) return;
    const waits = this.state.isLive && !this.#hasChanged;
    const pause = (waits ? LIVE_PAUSE_MS : PAUSE_MS)[this.#urgency];
    this.#timer = setTimeout(
      () => this.look(),
      Math.max(0, this.#askedAt + pause - performance.now()),
    );
  }

  #set(state: Partial<BoardState>): void {
    this.state = { ...this.state, ...state };
    this.dispatchEvent(new Event("change"));
  }

  /** Where Realtime does not answer, it is not tried for ever. */
  #listen(signal: AbortSignal): void {
    // never more often than without Realtime: each heartbeat of a holder is a change, too
    const hear = () => {
      this.#hasChanged = true;
      this.#arm();
    };
    let wasLive = false;
    const channel = this.#supabase.channel(`board ${crypto.randomUUID()}`);
    for (const table of ["video_database_state", "hand_over_requests", "saves"]) {
      channel.on("postgres_changes", { event: "*", schema: "public", table }, hear);
    }
    channel.subscribe((status) => {
      const isLive = status === "SUBSCRIBED";
      wasLive ||= isLive;
      if (isLive !== this.state.isLive) this.#set({ isLive });
      if (isLive) return void this.look();
      if (status === "CLOSED" || signal.aborted) return;
      this.#supabase.removeChannel(channel);
      this.#supabase.realtime.disconnect(); // it would try for ever
      this.#arm();
      if (wasLive) setTimeout(() => signal.aborted || this.#listen(signal), AGAIN_MS);
    });
    signal.addEventListener("abort", () => this.#supabase.removeChannel(channel));
  }
}
