/** One request's turn among those of its client. */
export interface Turn {
  /** What it asks for: `video_id/database_name`, in lower case. */
  readonly ids: readonly string[];
  readonly steals: boolean;
  /** `waiting` for its turn here, `asking` the service, `held`, and `ending`: what may be left of it is given back. */
  phase: "waiting" | "asking" | "held" | "ending";
  /** Whether the service, once asked, has said anything, or failed to. */
  isAnswered: boolean;
  /** Its turn has come. */
  begin(): void;
}

/**
 * Keeps the order among the requests of one client, as Web Locks has it: who asked first is first, who steals goes before
 * those who wait, and only the first of those who want the same lock talks to the service.
 */
export class Order<T extends Turn> {
  #turns: T[] = [];
  readonly #changed: (isEmpty: boolean) => void;

  /** @param changed Called when a first turn comes, or the last one has left. */
  constructor(changed: (isEmpty: boolean) => void) {
    this.#changed = changed;
  }

  /** All turns, in order; those who steal first. */
  get turns(): readonly T[] {
    return this.#turns;
  }

  /** Those who want, or have, one of these locks. */
  about(ids: readonly string[]): T[] {
    return this.#turns.filter((turn) => turn.ids.some((id) => ids.includes(id)));
  }

  /** Whether somebody came before: then a lock is not available at once. */
  isTaken(ids: readonly string[]): boolean {
    return this.about(ids).some(({ phase }) => phase !== "ending");
  }

  enter(turn: T): void {
    if (turn.steals) this.#turns.unshift(turn);
    else this.#turns.push(turn);
    if (this.#turns.length === 1) this.#changed(false);
    this.proceed();
  }

  leave(turn: T): void {
    const length = this.#turns.length;
    this.#turns = this.#turns.filter((other) => other !== turn);
    if (this.#turns.length === 0 && length > 0) this.#changed(true);
    this.proceed();
  }

  /** Lets those begin whose turn it is now. */
  proceed(): void {
    for (const turn of this.#turns) {
      if (turn.phase === "waiting" && !this.#isBlocked(turn)) {
        turn.phase = "asking";
        turn.begin();
      }
    }
  }

  #isBlocked(turn: T): boolean {
    const others = this.about(turn.ids);
    const position = others.indexOf(turn);
    // who steals waits only for what was asked before and is still open, so that it is the later one
    return turn.steals
      ? others.slice(position + 1).some(({ phase, isAnswered, steals }) =>
        phase === "ending" || phase === "asking" && !isAnswered || phase === "waiting" && steals
      )
      : position > 0;
  }
}
