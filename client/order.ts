/** One request among those of its client. */
export interface Turn {
  /** What it asks for: `video_id/database_name`, in lower case. */
  readonly ids: readonly string[];
  readonly steals: boolean;
  /** Its turn has come. */
  isAsking: boolean;
  /** Until the service, once asked, has said anything, or never will. */
  answered: Promise<void> | undefined;
  /** When nothing is left of it. */
  readonly over: Promise<void>;
  /** What may be left of it is being given back. */
  isEnding: boolean;
}

/**
 * Keeps the order among the requests of one client, as in Web Locks: first come, first served; a steal goes before those
 * that wait; and only the first of those who want the same lock talks to the service.
 */
export class Order<T extends Turn> {
  /** All that there are, in order; those who steal first. */
  turns: readonly T[] = [];

  /**
   * Those who want, or have, one of these locks.
   *
   * @param ids The locks.
   * @returns Turns, in order.
   */
  about(ids: readonly string[]): T[] {
    return this.turns.filter((turn) => turn.ids.some((id) => ids.includes(id)));
  }

  /**
   * The turns that a turn has to wait for.
   *
   * @param turn A turn that has entered.
   * @returns When each of them is out of the way; none if it is its turn.
   */
  before(turn: T): Promise<void>[] {
    const all = this.about(turn.ids);
    const place = all.indexOf(turn);
    if (!turn.steals) return all.slice(0, place).map(({ over }) => over);
    // A steal takes from the holder, and goes before those that wait. What is open already is decided first, so that it
    // is the later one.
    return all.slice(place + 1).flatMap((other) => {
      if (other.isEnding) return [other.over];
      return other.answered && (other.isAsking || other.steals) ? [other.answered] : [];
    });
  }
}
