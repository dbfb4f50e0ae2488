import { acquire, release, sql } from "./stack.ts";
import { layout, type Tenant } from "./tenant.ts";

/**
 * The ways in which a server's lease on the tenant's `layout` can end without its holder's further doing, by name. The
 * first word is the reason that the holder has to see; where the name has "another", worker-2 holds the lock then.
 */
export const WAYS_TO_END: Record<string, (tenant: Tenant, lock_id: string) => Promise<unknown>> = {
  released: (tenant, lock_id) => release(tenant.server, { ...layout(tenant), lock_id }),
  force_released: (tenant) => release(tenant.server, { ...layout(tenant), force: true }),
  expired: (tenant) => tenant.backdate(121),
  "expired and cleared": async (tenant) => {
    await tenant.backdate(121);
    await sql`select public.release_expired_locks()`;
  },
  "expired and taken by another": async (tenant) => {
    await tenant.backdate(121);
    await acquire(tenant.server, { ...layout(tenant), lock_holder_user_id: "worker-2" });
  },
  "force_released because its row was deleted": (tenant) =>
    sql`delete from public.video_database_state where video_id = ${tenant.video}`,
};
