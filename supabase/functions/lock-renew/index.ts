// Who may call: the holder of the acquisition that lock_id names. The database decides.
import { z } from "zod";
import { databaseName, flag, lockId, ttlSeconds, videoId } from "../_shared/fields.ts";
import { lockFunction } from "../_shared/lock_function.ts";

Deno.serve(lockFunction({
  name: "lock-renew",
  rpc: "renew_lock",
  outcome: "renewed",
  request: z.strictObject({
    video_id: videoId,
    database_name: databaseName,
    lock_id: lockId,
    ttl_seconds: ttlSeconds.optional(),
    active: flag.optional(),
  }),
}));
