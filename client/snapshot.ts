import type { SupabaseClient } from "@supabase/supabase-js";
import type { Acquisition } from "./acquisition.ts";
import { failure } from "./errors.ts";
import { namesOf } from "./key.ts";
import type { Key, LockInfo, LockSnapshot, LockType } from "./types.ts";

/** A row of the views, as far as it is read. */
export interface Row {
  database_name: string;
  lock_id?: string;
  lock_holder_user_id: string;
  lock_type: LockType;
}

/** What the views `held_locks` and `waiting_locks` say of a video. */
export interface Views {
  held: Row[];
  waiting: Row[];
}

const COLUMNS = "database_name,lock_holder_user_id,lock_type";

async function read(
  supabase: SupabaseClient,
  view: string,
  columns: string,
  video_id: string,
  order: string,
): Promise<Row[]> {
  const { data, error, status } = await supabase.from(view).select(columns)
    .eq("video_id", video_id).order(order);
  if (!error) return data as unknown as Row[];
  throw failure(status, error.message);
}

const readWaiting = (supabase: SupabaseClient, video_id: string) =>
  read(supabase, "waiting_locks", COLUMNS, video_id, "position");

/**
 * Reads the waiters of some locks, in one request.
 *
 * @param supabase The caller's client.
 * @param key Which locks.
 * @returns Their names, for each lock in order; none where they cannot be read.
 */
export async function readWaiters(supabase: SupabaseClient, key: Key): Promise<string[]> {
  const names = namesOf(key);
  const rows = await readWaiting(supabase, key.video_id).catch(() => []);
  return rows.filter((row) => names.includes(row.database_name))
    .map((row) => row.lock_holder_user_id);
}

/**
 * Reads holders and waiters, in two requests.
 *
 * @param supabase The caller's client.
 * @param video_id The video.
 * @returns The rows, in order.
 * @throws {LockError} Where they cannot be read.
 */
export async function readViews(supabase: SupabaseClient, video_id: string): Promise<Views> {
  const [held, waiting] = await Promise.all([
    read(supabase, "held_locks", `${COLUMNS},lock_id`, video_id, "locked_at"),
    readWaiting(supabase, video_id),
  ]);
  return { held, waiting };
}

/**
 * Puts together what the service knows and what only this client does: its own requests, at once.
 *
 * @param video_id The video.
 * @param views What the service says.
 * @param own This client's acquisitions of that video, in order.
 * @param clientId What its holder is called in the views.
 * @param lock_type What kind of holder that is.
 * @returns The snapshot.
 */
export function snapshotOf(
  video_id: string,
  views: Views,
  own: readonly Acquisition[],
  clientId: string,
  lock_type: LockType,
): LockSnapshot {
  const info = (name: string, clientId: string, lock_type: LockType): LockInfo => ({
    name,
    mode: "exclusive",
    clientId,
    video_id,
    lock_type,
  });
  const mine = (acquisition: Acquisition) =>
    namesOf(acquisition.key).map((name) => info(name, clientId, lock_type));
  const others = (rows: Row[]) =>
    rows.map((row) => info(row.database_name, row.lock_holder_user_id, row.lock_type));

  const foreign = views.held.filter((row) => own.every(({ lockId }) => lockId !== row.lock_id));
  const running = own.filter(({ isEnding }) => !isEnding);
  // In the view a place has no lock_id. Those of this client are recognized by their holder, and stay where they are in line.
  const isInLine = ({ name }: LockInfo) =>
    views.waiting.some((row) => row.database_name === name && row.lock_holder_user_id === clientId);
  return {
    held: [...running.filter(({ lease }) => lease).flatMap(mine), ...others(foreign)],
    pending: [
      ...others(views.waiting),
      ...running.filter(({ lease }) => !lease).flatMap((acquisition) =>
        mine(acquisition).filter((info) => !acquisition.refusal?.queue.position || !isInLine(info))
      ),
    ],
  };
}
