// What lock-acquire is measured against, served as three functions by bench/stack.ts and nowhere else.

const HOLDER = { lock_type: "server", locked_at: "2026-01-01", last_activity_at: "2026-01-01" };

/** Asks the Data API with the caller's key, and nothing else: no check, no error table, no deadline, no log. */
async function ask(request: Request, path: string, body?: unknown, method = "POST") {
  const response = await fetch(`${Deno.env.get("SUPABASE_URL")}/rest/v1/${path}`, {
    method: body ? method : "GET",
    headers: { apikey: request.headers.get("apikey")!, "content-type": "application/json" },
    ...body ? { body: JSON.stringify(body) } : {},
  });
  return response.ok ? await response.text() : `{"error":${response.status}}`;
}

const functions: Record<string, (request: Request) => Promise<string>> = {
  /** Costs what any function does. */
  "bench-empty": (request) => request.text(),
  /** The least that the contract allows: one RPC, and its answer. */
  "bench-passing": async (request) => await ask(request, "rpc/acquire_lock", await request.json()),
  /** Reads, decides, and then writes, in two calls. Two callers who read at the same moment both win. */
  "bench-two-calls": async (request) => {
    const { video_id, lock_holder_user_id } = await request.json();
    const row = `bench_two_calls?video_id=eq.${video_id}&database_name=eq.layout`;
    const [{ lock_holder_user_id: held }] = JSON.parse(await ask(request, row));
    if (held !== null) return '{"acquired":false}';
    await ask(request, row, { lock_holder_user_id, ...HOLDER }, "PATCH");
    return '{"acquired":true}';
  },
};

export default {
  async fetch(request: Request): Promise<Response> {
    const answer = await functions[Deno.env.get("SUPABASE_FUNCTION_SLUG")!]!(request);
    return new Response(answer, { headers: { "content-type": "application/json" } });
  },
};
