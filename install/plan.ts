/** One file that changes. */
export interface Change {
  /** Its path below `supabase/`. */
  path: string;
  /** Its text now; `null`: there is none. */
  before: string | null;
  /** Its text afterwards; `null`: there is none. */
  after: string | null;
}

/** What is to be done in a project. */
export interface Plan {
  /** What it does, in words. */
  title: string;
  changes: Change[];
  /** What the user should know, a line each. */
  notes: string[];
  /** What the user does next, a line each. */
  next: string[];
}
