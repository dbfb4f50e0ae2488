// Who may call: the holder; by force, the secret key and the tenant's admins. The database decides.
import { z } from "zod";
import { databaseName, flag, lockHolderUserId, lockId, videoId } from "../_shared/fields.ts";
import { lockFunction } from "../_shared/lock_function.ts";

Deno.serve(lockFunction({
  name: "lock-release",
  rpc: "release_lock",
  outcome: "released",
  request: z.strictObject({
    video_id: videoId,
    database_name: databaseName,
    lock_id: lockId.optional(),
    lock_holder_user_id: lockHolderUserId.optional(),
    force: flag.optional(),
  }),
}));
