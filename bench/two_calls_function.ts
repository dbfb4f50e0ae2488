// (c) as an edge function: reads the lock, decides, and then writes it, in two calls of the Data API. Two callers who
// read at the same moment both win. Only bench/http.ts serves it, on a stack of its own.
import { callerClient } from "./caller_client.ts";

export default {
  async fetch(request: Request): Promise<Response> {
    const { video_id, database_name, lock_holder_user_id } = await request.json();
    const supabase = callerClient(request);
    const { data, error } = await supabase.from("bench_two_calls")
      .select("*").match({ video_id, database_name });
    const row = data?.[0];
    if (row?.lock_holder_user_id !== null) return Response.json({ acquired: false, error });
    const now = new Date().toISOString();
    const { error: lost } = await supabase.from("bench_two_calls")
      .update({ lock_holder_user_id, lock_type: "server", locked_at: now, last_activity_at: now })
      .match({ video_id, database_name });
    return Response.json({ acquired: lost === null });
  },
};
