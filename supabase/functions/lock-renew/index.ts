// Who may call: the holder of the acquisition that lock_id names. The database decides.
import { lockFunction } from "../_shared/lock_function.ts";
import { renewRequest } from "../_shared/requests.ts";

export default lockFunction({
  name: "lock-renew",
  rpc: "renew_lock",
  outcome: "renewed",
  request: renewRequest,
});
