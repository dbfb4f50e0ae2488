/// <reference lib="dom" />
/** One database of a video, flat: a key for each thing that can be changed by itself. */
export type Doc = Readonly<Record<string, string>>;

/** What became of one key, between what was there at first and two later versions. */
export interface Change {
  key: string;
  /** When the editing began; `undefined`: it was not there. */
  base: string | undefined;
  mine: string | undefined;
  now: string | undefined;
  /** Both have changed it, and not to the same. */
  isConflict: boolean;
}

/**
 * Whether two versions are the same.
 *
 * @param a One.
 * @param b The other.
 */
export function isSame(a: Doc, b: Doc): boolean {
  return changedKeys(a, b).length === 0;
}

/**
 * The keys in which two versions differ.
 *
 * @param a One.
 * @param b The other.
 * @returns Keys, in no particular order.
 */
export function changedKeys(a: Doc, b: Doc): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => a[key] !== b[key]);
}

/**
 * What I have changed and what is there now does not have.
 *
 * @param base What was there when the editing began.
 * @param mine What I made of it.
 * @param now What is there now.
 * @returns My changes that are not there.
 */
export function compare(base: Doc, mine: Doc, now: Doc): Change[] {
  return changedKeys(base, mine).filter((key) => mine[key] !== now[key]).map((key) => ({
    key,
    base: base[key],
    mine: mine[key],
    now: now[key],
    isConflict: now[key] !== base[key],
  }));
}

/**
 * Puts changes into a version.
 *
 * @param now The version.
 * @param changes Those to put in.
 * @returns A new version.
 */
export function withChanges(now: Doc, changes: readonly Change[]): Doc {
  const doc: Record<string, string> = { ...now };
  for (const { key, mine } of changes) {
    if (mine === undefined) delete doc[key];
    else doc[key] = mine;
  }
  return doc;
}
