/// <reference lib="dom" />
import type { LostReason } from "../../../client/mod.ts";
import type { BoardRow, Waiter } from "./board.ts";

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/**
 * A time of day, and the day if it is not today.
 *
 * @param time When.
 */
export function clock(time: string | number): string {
  const date = new Date(time);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? CLOCK.format(date) : `${DAY.format(date)}, ${CLOCK.format(date)}`;
}

/**
 * A place in a line.
 *
 * @param position From 1 on.
 */
export function ordinal(position: number): string {
  const teen = position % 100 >= 11 && position % 100 <= 13;
  const ending = teen ? "th" : ["th", "st", "nd", "rd"][position % 10] ?? "th";
  return `${position}${ending}`;
}

/**
 * A span of time.
 *
 * @param seconds How long.
 */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return whole === 1 ? "1 second" : `${whole} seconds`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return minutes === 1 ? "1 minute" : `${minutes} minutes`;
  const hours = Math.round(minutes / 60);
  return hours === 1 ? "1 hour" : `${hours} hours`;
}

/**
 * Names in a sentence.
 *
 * @param names At least one.
 */
export function listed(names: string[]): string {
  if (names.length < 2) return names.join();
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/**
 * Who holds a lock, and since when.
 *
 * @param row The lock.
 * @param me The user.
 */
export function heldBy(row: BoardRow, me: string): string {
  if (!row.holder_id) {
    const [next] = row.waiting;
    return next ? `${next.id === me ? "You have" : `${next.name} has`} the next turn` : "Free";
  }
  const since = clock(row.locked_at!);
  if (row.holder_type === "server") {
    return `${row.holder_name} has been processing this since ${since}`;
  }
  return row.holder_id === me
    ? `You have been editing since ${since}`
    : `${row.holder_name} has been editing since ${since}`;
}

/**
 * How many wait.
 *
 * @param waiting The line.
 */
export function waitingCount(waiting: Waiter[]): string {
  return waiting.length === 0
    ? ""
    : waiting.length === 1
    ? "1 waiting"
    : `${waiting.length} waiting`;
}

/**
 * Why a lease was lost, in a sentence for its former holder.
 *
 * @param reason How it was lost.
 * @param by Who ended it, where that is known.
 * @param time When.
 */
export function lostBecause(reason: LostReason, by: string | null, time: number): string {
  const at = clock(time);
  switch (reason) {
    case "force_released":
      return `${by ?? "An administrator"} ended your editing at ${at}.`;
    case "taken_over":
      return `You went on in another tab at ${at}.`;
    case "idle":
      return `You paused, somebody was waiting, and the turn passed on at ${at}.`;
    case "forbidden":
      return `You may not edit this video any more, since ${at}.`;
    case "released":
      return `Your editing ended at ${at}.`;
    default:
      return `The connection was gone for too long: your turn ran out at ${at}.`;
  }
}

/** How a lease ended, in the history. */
const ENDS: Record<string, string> = {
  released: "stopped",
  expired: "ran out: nothing was heard any more",
  taken_over: "went on in another tab",
};

/**
 * How a lease ended, for everybody.
 *
 * @param reason Its `end_reason`.
 * @param by Who ended it by force.
 */
export function endedHow(reason: string, by: string | null): string {
  const who = by === "service_role" ? "the system" : by ?? "the system";
  return ENDS[reason] ?? `ended by ${who}`;
}
