import { ARGUMENTS } from "./arguments.ts";
import { HOLDING } from "./holding.ts";
import { IF_AVAILABLE } from "./if_available.ts";
import { QUERY } from "./query.ts";
import { SIGNAL } from "./signal.ts";
import { STEAL } from "./steal.ts";
import type { Case } from "./surroundings.ts";

/**
 * What the W3C's specification of Web Locks (https://w3c.github.io/web-locks/) says of exclusive locks, as far as a lock
 * over a network can do it too. It runs unchanged against a browser's, Node's and Deno's own `navigator.locks`, so that
 * it is known to be right, and against `locks.forVideo(video_id)`. It imports nothing of any of them.
 */
export const WEB_LOCKS: Case[] = [
  ...ARGUMENTS,
  ...HOLDING,
  ...IF_AVAILABLE,
  ...SIGNAL,
  ...STEAL,
  ...QUERY,
];
