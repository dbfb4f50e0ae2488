import { sql } from "./stack.ts";

/** A lease as the database would have it, written by the owner: for tests of what others may do with it. */
export interface PlantedLease {
  tenant: { id: string; video: string };
  lockId: string;
  holder: string;
  type: "client" | "server";
  token: number;
  /** Its length, from ten seconds ago on; default 120. */
  seconds?: number;
  /** Default: layout. */
  databases?: string[];
  /** Whether the databases were acquired together; default: if there are several. */
  isSet?: boolean;
}

/**
 * Plants a lease on rows that are not there yet.
 *
 * @param lease See {@link PlantedLease}.
 */
export async function plantLease(
  { tenant, lockId, holder, type, token, seconds = 120, databases = ["layout"], isSet }:
    PlantedLease,
): Promise<void> {
  const set = isSet ?? databases.length > 1 ? databases.toSorted() : null;
  await sql`
    insert into public.video_database_state (
      video_id, tenant_id, database_name, lock_id, lock_holder_user_id, lock_type, locked_at, last_activity_at,
      lock_expires_at, lock_ttl_seconds, lock_database_names, fencing_token
    )
    select ${tenant.video}, ${tenant.id}, name, ${lockId}, ${holder}, ${type}, t, t,
      t + ${seconds} * interval '1 second', ${seconds}, ${set}, ${token}
    from unnest(${databases}::text[]) as name, (select clock_timestamp() - interval '10 seconds' as t) as ago`;
}
