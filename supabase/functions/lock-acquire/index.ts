// Who may call: a user's token (for themselves) or the secret key (in a worker's name). The database decides.
import { lockFunction } from "../_shared/lock_function.ts";
import { acquireRequest } from "../_shared/requests.ts";

export default lockFunction({
  name: "lock-acquire",
  rpc: "acquire_lock",
  outcome: "acquired",
  request: acquireRequest,
});
