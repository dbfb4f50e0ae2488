/// <reference lib="dom" />
import type { Doc } from "./doc.ts";

/** What somebody has typed and the database does not have (yet). It outlives the lease, the page and the browser. */
export interface Draft {
  /** The `lock_id` of the lease under which it was typed. */
  id: string;
  video_id: string;
  database_name: string;
  /** What was there when the editing began. */
  base: Doc;
  mine: Doc;
  /** When it was typed, in milliseconds since 1970. */
  at: number;
}

/**
 * Keeps what is typed in this browser, each user's apart. A write is done when the call returns, so a tab that is closed, or a
 * machine that goes off, right after a keystroke loses nothing.
 */
export class Drafts extends EventTarget {
  readonly #prefix: string;
  /** Where the browser lets nothing be stored: until the page is left. */
  readonly #memory = new Map<string, string>();

  /** @param user Whose. */
  constructor(user: string) {
    super();
    this.#prefix = `holdfast-editor draft ${user} `;
    // another tab has kept or dropped one
    addEventListener("storage", (event) => {
      if ((event as StorageEvent).key?.startsWith(this.#prefix)) this.#tell();
    });
  }

  /**
   * Keeps a draft, in the place of an earlier one of the same lease.
   *
   * @param draft It.
   */
  keep(draft: Draft): void {
    const key = this.#prefix + draft.id;
    const text = JSON.stringify(draft);
    try {
      localStorage.setItem(key, text);
    } catch {
      this.#memory.set(key, text);
    }
    this.#tell();
  }

  /**
   * Forgets a draft.
   *
   * @param id The `lock_id`.
   */
  drop(id: string): void {
    const key = this.#prefix + id;
    if (!this.#memory.delete(key) && localStorage.getItem(key) === null) return;
    localStorage.removeItem(key);
    this.#tell();
  }

  /**
   * The drafts of one database of a video.
   *
   * @param video_id The video.
   * @param database_name The database.
   * @returns Drafts, the latest first.
   */
  of(video_id: string, database_name: string): Draft[] {
    const stored = Object.keys(localStorage).map((key) =>
      [key, localStorage.getItem(key)] as const
    );
    return [...stored, ...this.#memory]
      .filter(([key]) => key.startsWith(this.#prefix))
      .flatMap(([, text]) => read(text))
      .filter((draft) => draft.video_id === video_id && draft.database_name === database_name)
      .sort((a, b) => b.at - a.at);
  }

  #tell(): void {
    this.dispatchEvent(new Event("change"));
  }
}

/** One draft; none where the text is not one. */
function read(text: string | null): Draft[] {
  try {
    return [JSON.parse(text!) as Draft];
  } catch {
    return [];
  }
}
