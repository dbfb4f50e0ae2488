/**
 * Exclusive locks for Supabase projects, with the shape of the W3C's Web Locks.
 *
 * @module
 */
export {
  createLockClient,
  type LockClient,
  type LockClientOptions,
  type VideoLocks,
} from "./create_lock_client.ts";
export { LockError, type LockErrorCode, LockLostError } from "./errors.ts";
export type { Lease } from "./lease.ts";
export type * from "./types.ts";
