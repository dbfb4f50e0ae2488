// Who may call: the holder; by force, the secret key and the tenant's admins. The database decides.
import { lockFunction } from "../_shared/lock_function.ts";
import { releaseRequest } from "../_shared/requests.ts";

export default lockFunction({
  name: "lock-release",
  rpc: "release_lock",
  outcome: "released",
  request: releaseRequest,
});
