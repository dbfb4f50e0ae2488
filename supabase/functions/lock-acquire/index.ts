// Who may call: a user's token (for themselves) or the secret key (in a worker's name). The database decides.
import { z } from "zod";
import {
  databaseName,
  flag,
  lockHolderUserId,
  lockId,
  ttlSeconds,
  videoId,
} from "../_shared/fields.ts";
import { lockFunction } from "../_shared/lock_function.ts";

Deno.serve(lockFunction({
  name: "lock-acquire",
  rpc: "acquire_lock",
  outcome: "acquired",
  request: z.strictObject({
    video_id: videoId,
    database_name: databaseName,
    lock_holder_user_id: lockHolderUserId.optional(),
    lock_id: lockId.optional(),
    ttl_seconds: ttlSeconds.optional(),
    take_over: flag.optional(),
  }),
}));
