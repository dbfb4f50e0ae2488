/** One way to break Holdfast. */
export interface Mutation {
  /** What is then wrong. */
  what: string;
  /** The file, below the project's folder. */
  file: string;
  /** What is there, once. */
  from: string;
  /** What comes in its place. */
  to: string;
  /** The file of tests that has to notice: below the project's folder, without _test.ts. */
  test: string;
  /** Part of the names of those tests in it that have to; default: any. */
  only?: string;
}

/** The same, in a list by files: what is broken, from what, to what, and who has to notice: a file of tests, and part of their names. */
export type Row = [what: string, from: string, to: string, test: string, only?: string];
