import type { History } from "./history.ts";

/** How much a history can show: nothing overlaps in a quiet one, and an open call may be anything. */
export interface Power {
  calls: number;
  /** Calls beside which another one of the same lock was under way. */
  overlapping: number;
  /** Calls whose outcome nobody knows. */
  open: number;
  /** Of those, the ones that the database's own history resolved: granted, or nothing done. */
  resolved: number;
}

/**
 * Measures a history.
 *
 * @param history The history.
 * @returns How much it can show.
 */
export function powerOf({ calls, grants }: History): Power {
  const overlapping = calls.filter((call) =>
    calls.some((other) =>
      other !== call && other.video === call.video && other.called < (call.returned ?? Infinity) &&
      call.called < (other.returned ?? Infinity) &&
      other.names.some((name) => call.names.includes(name))
    )
  );
  const open = calls.filter(({ returned }) => returned === null);
  const known = new Set(grants.map(({ id }) => id));
  const resolved = open.filter(({ op, ask }) =>
    op === "acquire" || op === "write" ||
    ["renew", "release"].includes(op) && ask.id && !known.has(ask.id)
  );
  return {
    calls: calls.length,
    overlapping: overlapping.length,
    open: open.length,
    resolved: resolved.length,
  };
}
