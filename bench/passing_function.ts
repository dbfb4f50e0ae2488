// What the contract asks of lock-acquire at the least: one RPC by supabase-js with the caller's key, and its answer. Only
// bench/http.ts serves it, on a stack of its own.
import { callerClient } from "./caller_client.ts";

export default {
  async fetch(request: Request): Promise<Response> {
    const { data } = await callerClient(request).rpc("acquire_lock", await request.json());
    return Response.json(data);
  },
};
