/// <reference lib="dom" />
import type { SupabaseClient } from "@supabase/supabase-js";
import type {
  Lease,
  LockClient,
  LockError,
  LockLostError,
  LostReason,
} from "../../../client/mod.ts";
import { announce } from "./announce.ts";
import type { Board, BoardRow } from "./board.ts";
import type { Database } from "./databases.ts";
import { type Change, compare, type Doc, isSame, withChanges } from "./doc.ts";
import type { Draft, Drafts } from "./drafts.ts";
import { lostBecause } from "./words.ts";

/** `asking`: it waits for its turn, or for the first answer. `stopping`: it saves what is left, and releases. */
export type Phase = "reading" | "asking" | "editing" | "stopping";

/** How saving goes. */
export type Saving = "saved" | "unsaved" | "saving" | "failing";

/** Why the last lease was lost, and what is left of it. */
export interface Loss {
  reason: LostReason;
  /** Who ended it by force, as soon as that is known. */
  by: string | null;
  /** In milliseconds since 1970. */
  at: number;
  /** The lease that was lost: its draft, if there is one, has its `lock_id`. */
  lockId: string;
}

/** What a screen shows of one database of a video. */
export interface EditingState {
  phase: Phase;
  /** What the database has, as last read. */
  now: Doc | null;
  /** What is on the screen while it is edited. */
  mine: Doc | null;
  saving: Saving;
  savedAt: number | null;
  /** The lease this tab holds, and since when. */
  lockId: string | null;
  since: string | null;
  /** Renewing fails just now: the lease lasts until then, on the page's own clock, if nothing more is heard. */
  inDoubtUntil: number | null;
  /** Nobody has typed for long, and the lease gives way. */
  isIdle: boolean;
  loss: Loss | null;
  /** What went wrong with the last click, for a person. */
  trouble: string | null;
  /** Kept drafts that are in no lease any more, the latest first. */
  drafts: Draft[];
}

/** What all editings of a page share. */
export interface Desk {
  supabase: SupabaseClient;
  locks: LockClient;
  board: Board;
  drafts: Drafts;
  /** The user's id. */
  me: string;
  /** Length of a lease, and when nobody is at it, in seconds. */
  ttlSeconds: number;
  idleSeconds: number;
}

/** Saved so long after the last key, in milliseconds. */
const SAVE_AFTER_MS = 500;
/** Tried again so long after a save that failed, in milliseconds. */
const SAVE_AGAIN_MS = 2000;
/** How often it is looked whether somebody is still there, in milliseconds. */
const IDLE_LOOK_MS = 500;

/** What to put into the newest version as soon as the turn has come. */
interface Resumption {
  draft: Draft;
  changes: Change[];
}

/** The life of one database of a video on this page: reading, waiting, editing, losing, taking up again. Events: `change`. */
export class Editing extends EventTarget {
  state: EditingState = {
    phase: "reading",
    now: null,
    mine: null,
    saving: "saved",
    savedAt: null,
    lockId: null,
    since: null,
    inDoubtUntil: null,
    isIdle: false,
    loss: null,
    trouble: null,
    drafts: [],
  };
  readonly #desk: Desk;
  readonly #database: Database;
  readonly video_id: string;
  #lease: Lease | undefined;
  #waiting: AbortController | undefined;
  #base: Doc = {};
  #touchedAt = 0;
  #grantedAt = 0;
  /** Nobody looks at it any more. */
  #isOver = false;
  /** Settles when what was asked for is granted, refused or given up. */
  #asking: Promise<void> | undefined;
  /** Leases of this tab that are over: what the board says of them is old. */
  readonly #endedIds = new Set<string>();
  #saveTimer: ReturnType<typeof setTimeout> | undefined;
  #save: Promise<void> | undefined;
  #readVersion = -1;
  #resumed: Draft | undefined;
  #isResuming = false;

  constructor(desk: Desk, video_id: string, database: Database) {
    super();
    this.#desk = desk;
    this.#database = database;
    this.video_id = video_id;
  }

  /**
   * Begins to follow what the database has and who holds its lock.
   *
   * @returns Ends it, and gives back what is held: what was typed is saved before.
   */
  start(): () => void {
    const end = new AbortController();
    this.#isOver = false;
    const { board, drafts } = this.#desk;
    board.addEventListener("change", () => this.#heard(), { signal: end.signal });
    drafts.addEventListener("change", () => this.#listDrafts(), { signal: end.signal });
    addEventListener("online", () => this.#lease && this.#saveSoon(0), { signal: end.signal });
    const idleTimer = setInterval(() => this.#lookIdle(), IDLE_LOOK_MS);
    this.#heard();
    return () => {
      end.abort();
      this.#isOver = true;
      clearInterval(idleTimer);
      this.#waiting?.abort();
      this.stop();
    };
  }

  /**
   * Asks for the lock, waits for it if need be, and begins to edit the newest version.
   *
   * @param how "take over": from one's own other tab.
   * @param resumption Changes to put in.
   */
  async edit(how: "in turn" | "take over" = "in turn", resumption?: Resumption): Promise<void> {
    if (how === "take over") { // the place behind one's own other tab is not needed any more
      this.#waiting?.abort();
      await this.#asking;
    }
    if (this.state.phase !== "reading") return;
    this.#set({ phase: "asking", trouble: null });
    this.#desk.board.hurry(this, true);
    this.#asking = this.#ask(how, resumption);
    await this.#asking;
  }

  async #ask(how: "in turn" | "take over", resumption?: Resumption): Promise<void> {
    const { locks, board, ttlSeconds, idleSeconds } = this.#desk;
    this.#isResuming = resumption !== undefined;
    const { signal } = this.#waiting = new AbortController();
    const options = { ttlSeconds, maxIdleSeconds: idleSeconds };
    const more = how === "take over" ? { steal: true } : { signal, waitSeconds: Infinity };
    try {
      await this.#enter(await locks.acquire(this.#key, { ...options, ...more }), resumption);
    } catch (error) {
      if (this.#lease) return; // lost while it was opened: that is shown already
      this.#set({ phase: "reading", trouble: signal.aborted ? null : whyNot(error as LockError) });
      board.hurry(this, false);
    }
  }

  /** Gives the place in the line up. */
  leaveLine(): void {
    this.#waiting?.abort();
    this.#withdraw();
  }

  /** Saves what is left and gives the lock back. What cannot be saved now stays, and the lock with it. */
  async stop(): Promise<void> {
    const lease = this.#lease;
    if (!lease || this.state.phase !== "editing") return;
    this.#set({ phase: "stopping" });
    await this.#flush();
    if (this.#lease !== lease) return; // lost meanwhile
    if (!this.#isSaved) {
      this.#set({ phase: "editing", trouble: "Not saved yet, so you keep your turn for now." });
      return this.#saveSoon(SAVE_AGAIN_MS);
    }
    this.#lease = undefined;
    this.#endedIds.add(lease.lockId);
    await lease.release();
    this.#leave({ loss: null });
    announce(`You have stopped editing ${this.#what}.`);
  }

  /**
   * Takes a change, keeps it in this browser, and saves it soon.
   *
   * @param mine The whole, changed.
   */
  change(mine: Doc): void {
    const lease = this.#lease;
    if (!lease || this.state.phase !== "editing") return;
    this.touch();
    this.#keepDraft(lease, mine);
    this.#set({ mine, saving: "unsaved" });
    this.#saveSoon(SAVE_AFTER_MS);
  }

  /** Says that somebody is there. */
  touch(): void {
    this.#touchedAt = performance.now();
    this.#lease?.touch();
    if (this.state.isIdle) this.#set({ isIdle: false });
  }

  /**
   * Takes a kept draft up again: as soon as the turn has come, its changes go into the newest version.
   *
   * @param draft The draft.
   * @param changes Those of its changes that are to go in.
   */
  async takeUp(draft: Draft, changes: Change[]): Promise<void> {
    const resumption = { draft, changes };
    if (this.state.phase === "editing") this.#resume(resumption);
    else await this.edit("in turn", resumption);
  }

  /**
   * Throws a kept draft away.
   *
   * @param draft The draft.
   */
  discard(draft: Draft): void {
    this.#desk.drafts.drop(draft.id);
    if (draft.id === this.state.loss?.lockId) this.#set({ loss: null });
  }

  /** The loss has been read. */
  dismissLoss(): void {
    this.#set({ loss: null });
  }

  /** Asks the holder to hand over, and waits in the line meanwhile. */
  async askToHandOver(): Promise<void> {
    if (this.state.phase === "reading") void this.edit();
    const { error } = await this.#desk.supabase.rpc("ask_to_hand_over", this.#key);
    if (error) this.#set({ trouble: "Your wish could not be sent. Try again." });
    else announce("You have asked to be let in.");
    this.#desk.board.look();
  }

  /** Says "not yet" to all who have asked. */
  async decline(): Promise<void> {
    this.touch();
    await this.#desk.supabase.rpc("decline_to_hand_over", this.#key);
    this.#desk.board.look();
  }

  /**
   * Ends somebody's editing, as an administrator.
   *
   * @param lock_id Which lease, and none that came after it.
   */
  async endByForce(lock_id: string): Promise<void> {
    const { supabase, board } = this.#desk;
    const body = { ...this.#key, lock_id, force: true };
    const { error } = await supabase.functions.invoke("lock-release", { body });
    if (error) this.#set({ trouble: "It could not be ended. Try again." });
    board.look();
  }

  /** Whether a kept draft goes in as soon as the turn has come. */
  get isResuming(): boolean {
    return this.#isResuming;
  }

  /**
   * What the board says of this lock, but for a lease of this tab that is over already.
   *
   * @param row The lock.
   * @returns The same, or as free.
   */
  withoutEnded(row: BoardRow | undefined): BoardRow | undefined {
    if (!row?.lock_id || !this.#endedIds.has(row.lock_id)) return row;
    return { ...row, lock_id: null, holder_id: null, holder_type: null, holder_name: null };
  }

  get #key() {
    return { video_id: this.video_id, database_name: this.#database.name };
  }

  get #what(): string {
    return `the ${this.#database.name}`;
  }

  get #row(): BoardRow | undefined {
    return this.#desk.board.row(this.video_id, this.#database.name);
  }

  get #isSaved(): boolean {
    return !this.state.mine || isSame(this.#base, this.state.mine);
  }

  async #enter(lease: Lease, resumption?: Resumption): Promise<void> {
    if (this.#isOver) return await lease.release();
    this.#lease = lease;
    this.#grantedAt = performance.now();
    lease.addEventListener("statechange", () => this.#leaseChanged(lease));
    lease.signal.addEventListener("abort", () => this.#lost(lease));
    if (lease.signal.aborted) return this.#lost(lease);
    this.#withdraw();
    const { lockId } = lease;
    const since = "lock" in lease.granted ? lease.granted.lock.locked_at : null;
    this.touch();
    // read after the grant: from now on nobody else writes
    const now = await this.#readNewest(lease);
    if (this.#lease !== lease) return;
    this.#base = now;
    this.#set({ phase: "editing", now, mine: now, saving: "saved", lockId, since, loss: null });
    announce(`It is your turn: you are editing ${this.#what}.`);
    if (resumption) this.#resume(resumption);
    this.#desk.board.look();
  }

  /** Tries until it has been read, or the lease is lost. */
  async #readNewest(lease: Lease): Promise<Doc> {
    for (;;) {
      try {
        return await this.#database.read(this.#desk.supabase, this.video_id);
      } catch (error) {
        if (lease.signal.aborted) throw error;
        await new Promise((resolve) => setTimeout(resolve, SAVE_AGAIN_MS));
      }
    }
  }

  #resume({ draft, changes }: Resumption): void {
    this.#resumed = draft;
    this.change(withChanges(this.state.mine!, changes));
    if (this.#isSaved) this.#forgetResumed(); // it is there already
    this.#saveSoon(0);
  }

  #leaseChanged(lease: Lease): void {
    if (this.#lease !== lease || lease.state === "lost") return;
    const isInDoubt = lease.state === "in doubt";
    this.#set({
      inDoubtUntil: isInDoubt ? performance.now() + lease.secondsLeft * 1000 : null,
    });
    announce(
      isInDoubt
        ? "Connection trouble. What you type is kept in this browser."
        : "Connected again. It is still your turn.",
    );
  }

  /** Read-only at once. A save that is still on its way is refused by the database. */
  #lost(lease: Lease): void {
    if (this.#lease !== lease) return;
    this.#lease = undefined;
    this.#resumed = undefined;
    this.#endedIds.add(lease.lockId);
    clearTimeout(this.#saveTimer);
    const { reason } = lease.signal.reason as LockLostError;
    const at = Date.now();
    const loss: Loss = { reason, by: null, at, lockId: lease.lockId };
    this.#leave({ loss, trouble: null });
    const kept = this.state.drafts.length ? " What was not saved is kept." : "";
    if (reason !== "force_released") return announce(lostBecause(reason, null, at) + kept);
    this.#whoEnded(lease.lockId).then((by) => {
      announce(lostBecause(reason, by, at) + kept);
      if (this.state.loss === loss) this.#set({ loss: { ...loss, by } });
    });
  }

  async #whoEnded(lock_id: string): Promise<string | null> {
    const { data } = await this.#desk.supabase.from("lock_history").select("ended_by")
      .match({ ...this.#key, lock_id }).maybeSingle();
    return data?.ended_by ?? null;
  }

  /** Back to reading. */
  #leave(more: Partial<EditingState>): void {
    this.#desk.board.hurry(this, false);
    this.#readVersion = -1;
    this.#set({
      phase: "reading",
      now: this.#base,
      mine: null,
      lockId: null,
      since: null,
      inDoubtUntil: null,
      isIdle: false,
      saving: "saved",
      ...more,
    });
    this.#listDrafts();
    this.#heard();
  }

  #keepDraft(lease: Lease, mine: Doc): void {
    const base = this.#base;
    if (isSame(base, mine)) return this.#desk.drafts.drop(lease.lockId);
    const at = Date.now();
    this.#desk.drafts.keep({ ...this.#key, id: lease.lockId, base, mine, at });
  }

  #saveSoon(ms: number): void {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = setTimeout(() => this.#flush(), ms);
  }

  /** Saves until all is saved, or it fails. One save at a time. */
  #flush(): Promise<void> {
    clearTimeout(this.#saveTimer);
    return this.#save ??= this.#saveAll().finally(() => this.#save = undefined);
  }

  async #saveAll(): Promise<void> {
    const lease = this.#lease;
    while (lease && this.#lease === lease && !this.#isSaved) {
      await this.#saveOnce(lease);
      if (this.state.saving === "failing") return this.#saveSoon(SAVE_AGAIN_MS);
    }
  }

  async #saveOnce(lease: Lease): Promise<void> {
    const { supabase } = this.#desk;
    const mine = this.state.mine!;
    this.#set({ saving: "saving" });
    try {
      await this.#database.write(supabase, lease, this.video_id, this.#base, mine);
    } catch {
      // refused, as the lease is lost: the lease finds out at once, and the draft is kept. Or no answer: again.
      if (this.#lease === lease) this.#set({ saving: "failing" });
      return;
    }
    if (this.#lease !== lease) return; // it was saved, and lost right after: the draft shows no difference any more
    this.#base = mine;
    this.#keepDraft(lease, this.state.mine!);
    this.#forgetResumed();
    const saving = this.#isSaved ? "saved" : "unsaved";
    this.#set({ saving, now: mine, savedAt: Date.now(), trouble: null });
  }

  #forgetResumed(): void {
    const { drafts } = this.#desk;
    if (this.#resumed) drafts.drop(this.#resumed.id);
    this.#resumed = undefined;
  }

  #lookIdle(): void {
    if (!this.#lease) return;
    const isIdle = performance.now() - this.#touchedAt > this.#desk.idleSeconds * 1000;
    if (isIdle !== this.state.isIdle) this.#set({ isIdle });
  }

  /** The board has changed. */
  #heard(): void {
    const row = this.#row;
    const { askedAt } = this.#desk.board.state;
    if (!row) return;
    const lease = this.#lease;
    if (lease && askedAt > this.#grantedAt) {
      // Another lease, or none, though it was asked after the grant: ours is over, and a renewal tells how. Or nobody is at it
      // and somebody waits: the renewal that gives way need not wait for its time.
      if (row.lock_id !== lease.lockId || this.state.isIdle && row.waiting.length) lease.wake();
    }
    if (this.state.phase !== "editing" && row.version !== this.#readVersion) {
      this.#readVersion = row.version;
      this.#read();
    }
    this.#listDrafts();
  }

  async #read(): Promise<void> {
    const version = this.#readVersion;
    try {
      const now = await this.#database.read(this.#desk.supabase, this.video_id);
      if (this.state.phase === "editing" || version !== this.#readVersion) return;
      this.#set({ now });
      this.#listDrafts();
    } catch {
      this.#readVersion = -1; // with the next look
    }
  }

  /** A draft whose lease is live is not lost: it is being typed, here or in another tab. One that was saved is not kept. */
  #listDrafts(): void {
    const { now } = this.state;
    const live = [this.#lease?.lockId, this.#resumed?.id, this.#row?.lock_id];
    const drafts = this.#desk.drafts.of(this.video_id, this.#database.name)
      .filter(({ id }) => this.#endedIds.has(id) || !live.includes(id))
      .filter(({ base, mine }) => !now || compare(base, mine, now).length > 0);
    if (JSON.stringify(drafts) !== JSON.stringify(this.state.drafts)) this.#set({ drafts });
  }

  /** Takes one's own wish to be let in back. */
  #withdraw(): void {
    const { supabase, me } = this.#desk;
    const asked = this.#row?.waiting.some(({ id, asked_at }) => id === me && asked_at);
    if (!asked) return;
    supabase.from("hand_over_requests").delete().match({ ...this.#key, user_id: me })
      .then(() => {});
  }

  #set(state: Partial<EditingState>): void {
    this.state = { ...this.state, ...state };
    this.dispatchEvent(new Event("change"));
  }
}

/** For a person. */
function whyNot(error: LockError): string {
  switch (error.code) {
    case "LOCK_NOT_ACQUIRED":
      return "Somebody else has it.";
    case "NOT_AUTHENTICATED":
      return "You are signed out. Sign in again.";
    case "VIDEO_NOT_FOUND":
    case "FORBIDDEN":
      return "You may not edit this video.";
    default:
      return "The service did not answer. Try again.";
  }
}
