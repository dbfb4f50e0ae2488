import type { Random } from "../random.ts";
import type { Recording } from "../recording.ts";
import type { Arena } from "./arena.ts";

/** Something that goes wrong. */
export interface Fault {
  /** How flags name it. */
  name: string;
  /** What it is, for a reader. */
  says: string;
  /** What has to be there. Missing: it is left out, and that is said. */
  needs?: "pgbouncer" | "faketime" | "disk";
  /** Whether it may come together with any other one of this kind. */
  mixes: boolean;
  /** Properties that are not promised under it, or cannot be judged. */
  waives: readonly string[];
  /** Before the callers come. */
  prepare?(arena: Arena): Promise<void>;
  /** Lets it happen once, and mends what it broke. */
  strike(arena: Arena, recording: Recording, draw: Random): Promise<void>;
  /** How often in one piece; default: again and again. */
  once?: boolean;
  /** When all is over. */
  mend?(arena: Arena): Promise<void>;
}
