import type { AcquireAnswer, ReleaseAnswer, RenewAnswer } from "./contract.ts";
import type { DatabaseReply } from "./data_api.ts";
import { BUSY_RETRY_MS } from "./rules.ts";

/** The field that says yes or no. */
export type Outcome = "acquired" | "renewed" | "released";

/**
 * Whether the database gave up waiting for another transaction (`lock_not_available`). Its functions answer `busy`
 * themselves; this is the moment between their look at the row and their write.
 *
 * @param reply The Data API's reply.
 * @returns True where the lock is busy.
 */
export function isBusy({ body }: DatabaseReply): boolean {
  return typeof body === "object" && body !== null && (body as { code?: unknown }).code === "55P03";
}

/**
 * The answer `busy`, as the database's functions give it.
 *
 * @param outcome What was asked for.
 * @param fields The request.
 * @param date The reply's header `Date`. It is the nearest to the database's clock that there is, exact to a second.
 * @returns The answer; `undefined` without a date, as a time of one's own would not be the database's.
 */
export function busyAnswer(
  outcome: Outcome,
  fields: Record<string, unknown>,
  date: string | null,
): AcquireAnswer | RenewAnswer | ReleaseAnswer | undefined {
  if (outcome === "released") return { released: false, reason: "busy", holder: null };
  const time = Date.parse(date ?? "");
  if (Number.isNaN(time)) return undefined;
  const [first] = fields.database_names as string[] | undefined ?? [];
  const common = {
    reason: "busy",
    database_name: fields.database_name as string | undefined ?? first!,
    holder: null,
    server_time: new Date(time).toISOString(),
  } as const;
  return outcome === "renewed" ? { renewed: false, ...common } : {
    acquired: false,
    ...common,
    queue: { position: null, length: 0 },
    retry_after_ms: BUSY_RETRY_MS,
  };
}
