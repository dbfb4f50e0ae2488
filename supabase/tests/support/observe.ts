import { sql } from "./stack.ts";

/** All that the database has of some videos' locks, in the words of the model. Times are microseconds. */
export interface Seen {
  /** The database's clock just then. */
  now: number;
  all: {
    rows: { key: string; id: string | null }[];
    history: { key: string; id: string; type: string; holder: string; endedAt: number }[];
    places: {
      key: string;
      id: string;
      type: string;
      holder: string;
      queuedAt: number;
      keptUntil: number;
    }[];
    cancelled: { key: string; id: string; type: string; holder: string; at: number }[];
    held: string[];
    waiting: string[];
  };
}

/**
 * Reads everything in one statement, as the owner.
 *
 * @param videos The videos.
 * @param passed How many microseconds it is later than by the database's clock.
 * @returns What there is. Places that have lapsed are left out.
 * @throws {Error} Where has_line of a row is wrong, or a lock is half held (P9).
 */
export async function observe(videos: string[], passed: number): Promise<Seen> {
  const us = (column: string) =>
    `(extract(epoch from ${column}) * 1000000)::bigint + ${Math.round(passed)}`;
  const [row] = await sql.unsafe<{ seen: Seen; wrong: string | null }[]>(
    `
    with state as (
      select s.*, s.video_id || ' ' || s.database_name as key
      from public.video_database_state s where s.video_id = any ($1::uuid[])
    ), place as (
      select p.*, p.video_id || ' ' || p.database_name as key
      from holdfast.place p where p.video_id = any ($1::uuid[]) and p.kept_until > clock_timestamp()
    ), cancelled as (
      select c.*, c.video_id || ' ' || c.database_name as key
      from holdfast.cancellation c where c.video_id = any ($1::uuid[])
    )
    select json_build_object('now', ${us("clock_timestamp()")}, 'all', json_build_object(
      'rows', (select coalesce(json_agg(json_build_object(
        'key', key, 'tenant', tenant_id, 'id', lock_id, 'holder', lock_holder_user_id, 'type', lock_type,
        'set', lock_database_names, 'lockedAt', ${us("locked_at")}, 'activeAt', ${
      us("last_activity_at")
    },
        'expiresAt', ${us("lock_expires_at")}, 'ttl', lock_ttl_seconds,
        'versions', server_version || ' ' || wasabi_version, 'token', fencing_token
      )), '[]') from state),
      'history', (select coalesce(json_agg(json_build_object(
        'key', video_id || ' ' || database_name, 'id', lock_id, 'holder', lock_holder_user_id, 'type', lock_type,
        'token', fencing_token, 'set', lock_database_names, 'lockedAt', ${us("locked_at")},
        'endedAt', ${us("ended_at")}, 'reason', end_reason, 'endedBy', ended_by, 'tenant', tenant_id
      )), '[]') from public.video_database_lock_history where video_id = any ($1::uuid[])),
      'places', (select coalesce(json_agg(json_build_object(
        'key', key, 'id', lock_id, 'holder', lock_holder_user_id, 'type', lock_type, 'set', lock_database_names,
        'queuedAt', ${us("queued_at")}, 'keptUntil', ${us("kept_until")}
      )), '[]') from place),
      'cancelled', (select coalesce(json_agg(json_build_object(
        'key', key, 'id', lock_id, 'type', lock_type, 'holder', lock_holder_user_id, 'at', ${
      us("cancelled_at")
    }
      )), '[]') from cancelled),
      'held', (select coalesce(json_agg(video_id || ' ' || database_name || ' ' || lock_id || ' ' || queue_length), '[]')
        from public.held_locks where video_id = any ($1::uuid[])),
      'waiting', (select coalesce(json_agg(
        video_id || ' ' || database_name || ' ' || "position" || ' ' || lock_type || ' ' || lock_holder_user_id
      ), '[]') from public.waiting_locks where video_id = any ($1::uuid[]))
    )) as seen, (
      select string_agg(key, ', ') from state s
      where not has_line and (key in (select key from place) or key in (select key from cancelled))
    ) as wrong`,
    [videos],
  );
  if (row!.wrong) throw new Error(`has_line is false, and should be true: ${row!.wrong}`);
  return row!.seen;
}
