// @ts-types="@types/react"
import { useEffect, useState } from "react";
import type { Key, Lease, LockClient, LockOptions } from "../../client/mod.ts";

/**
 * Holds a lock while a component is mounted.
 *
 * @param locks The client.
 * @param key Which lock. Give the same object at each render.
 * @param options See {@link LockOptions}; as they are when it is mounted.
 * @returns The lease; `null` while it is not held.
 */
export function useLock(locks: LockClient, key: Key, options: LockOptions = {}): Lease | null {
  const [lease, setLease] = useState<Lease | null>(null);
  useEffect(() => {
    const unmounted = new AbortController();
    locks.request(key, { ...options, signal: unmounted.signal }, (granted) => {
      setLease(granted);
      return new Promise((end) => unmounted.signal.addEventListener("abort", end));
    }).catch(() => {}).finally(() => setLease(null));
    return () => unmounted.abort();
  }, [locks, key]);
  return lease;
}
