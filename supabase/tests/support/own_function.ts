import type { LogLine } from "../../functions/_shared/log.ts";

/** A function that a test serves itself, to put something else behind it or to watch what it does. */
export interface OwnFunction extends AsyncDisposable {
  /** Where it answers. */
  url: string;
  /** What it has written to its log. */
  log: LogLine[];
}

/**
 * Serves one of the functions over HTTP, the deployed code as it is, with another address of the Data API.
 *
 * @param name Folder of the function.
 * @param supabaseUrl What it finds in SUPABASE_URL.
 * @returns The function; end it with `await using`.
 */
export async function serveFunction(name: string, supabaseUrl: string): Promise<OwnFunction> {
  const { default: served } = await import(`../../functions/${name}/index.ts`);
  const env = Deno.env.get("SUPABASE_URL");
  Deno.env.set("SUPABASE_URL", supabaseUrl);
  const print = console.log;
  const log: LogLine[] = [];
  console.log = (line: string) => log.push(JSON.parse(line));
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, served.fetch);
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    log,
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      console.log = print;
      Deno.env.set("SUPABASE_URL", env!);
    },
  };
}

/** A stand for the Data API that answers as the test wants. */
export interface OwnDataApi extends AsyncDisposable {
  url: string;
  /** Requests that reached it: method and path. */
  calls: string[];
}

/**
 * Serves what a function finds behind SUPABASE_URL.
 *
 * @param answer Answers a request, or passes it on.
 * @returns The server; end it with `await using`.
 */
export function serveDataApi(
  answer: (request: Request) => Response | Promise<Response>,
): OwnDataApi {
  const calls: string[] = [];
  const ended = new AbortController();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {}, signal: ended.signal },
    (request) => {
      calls.push(`${request.method} ${new URL(request.url).pathname}`);
      return answer(request);
    },
  );
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    calls,
    async [Symbol.asyncDispose]() {
      ended.abort();
      await server.finished;
    },
  };
}

/**
 * Passes a request on to another server, unchanged.
 *
 * @param base The other server's address.
 * @returns An answer for {@link serveDataApi}.
 */
export function passOnTo(base: string): (request: Request) => Promise<Response> {
  return (request) => {
    const { pathname, search } = new URL(request.url);
    const headers = new Headers(request.headers);
    headers.delete("host");
    return fetch(new URL(pathname + search, base), {
      method: request.method,
      headers,
      body: request.body,
    });
  };
}
