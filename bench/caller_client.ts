import { createClient, type SupabaseClient } from "@supabase/supabase-js";

/**
 * The client of a function of bench/http.ts.
 *
 * @param request Whose `apikey` it sends, and no other credentials.
 * @returns A client for this request.
 */
export function callerClient(request: Request): SupabaseClient {
  return createClient(Deno.env.get("SUPABASE_URL")!, request.headers.get("apikey")!, {
    accessToken: () => Promise.resolve(null),
    global: {
      fetch: (input, init) => {
        const headers = new Headers(init?.headers);
        headers.delete("authorization");
        return fetch(input, { ...init, headers });
      },
    },
  });
}
