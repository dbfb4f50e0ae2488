import type { Keys } from "./keys.ts";
import { type TokenVerifier, tokenVerifier } from "./rest/verify_token.ts";
import { StackError } from "./stack_error.ts";

/** What answers behind the gateway. */
export interface Upstreams {
  /** Requests below `/rest/v1`, with a JWT in `Authorization`. */
  rest(request: Request): Promise<Response>;
  /** Requests below `/auth/v1`, with a JWT in `Authorization`. */
  auth(request: Request): Promise<Response>;
  /** The origin of an edge function; `null` while it does not answer, `undefined` when there is none of that name. */
  functionOrigin(name: string): string | null | undefined;
  /** Whether a function wants a JWT checked before it is called, as `verify_jwt` says. */
  verifies(name: string): boolean;
}

/** The one address of the stack. */
export interface Gateway {
  url: string;
  /** From now on requests are passed on; until then they get a 503. */
  open(upstreams: Upstreams): void;
  close(): Promise<void>;
}

/**
 * Starts the gateway: one address for the Data API, Auth and the edge functions, with what Supabase's own does on the
 * way. In front of the APIs an API key is needed, and turned into the JWT of its role unless the caller brings a token
 * of its own. A function gets `apikey` and `Authorization` unchanged: it is for the function to judge them.
 *
 * @param port The port on 127.0.0.1; 0 takes any free one.
 * @param keys The keys to accept.
 * @throws {StackError} When the port is taken.
 */
export function startGateway(port: number, keys: Keys): Gateway {
  let upstreams: Upstreams | undefined;
  const verify = tokenVerifier(keys.jwtSecret);
  const server = listen(port, async (request) => {
    const { pathname } = new URL(request.url);
    const [, service, name = ""] = /^\/(rest|auth|functions)\/v1(?:\/([^/]*)|$)/.exec(pathname) ??
      [];
    const origin = service === "functions" ? upstreams?.functionOrigin(name) : undefined;
    // A function answers its own preflights. For all else a browser is to come and see what is wrong.
    if (isPreflight(request) && !origin) return preflight(request);
    if (!service) return json(404, { message: "no Route matched with those values" });
    if (!upstreams) return unavailable("The stack is starting.");
    if (service === "functions") {
      if (origin === undefined) {
        return json(404, { code: "NOT_FOUND", message: "Requested function was not found" });
      }
      const error = upstreams.verifies(name) && await tokenError(request, await verify);
      return error || await passToFunction(request, name, origin);
    }
    const passedOn = identify(request, keys);
    if (passedOn instanceof Response) return passedOn;
    try {
      return withCors(await upstreams[service as "rest" | "auth"](passedOn));
    } catch (error) {
      console.error(`${request.method} ${pathname}:`, error);
      return json(500, { message: "An unexpected error occurred" });
    }
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    open(to) {
      upstreams = to;
    },
    close: async () => {
      upstreams = undefined;
      await server.shutdown();
    },
  };
}

function listen(port: number, handler: Deno.ServeHandler): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({ hostname: "127.0.0.1", port, onListen() {} }, handler);
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new StackError(`Port ${port} is taken. Take another one with --port (0 = any free one).`);
  }
}

/** The error for a caller without a valid JWT; preflights have none. */
async function tokenError(request: Request, verify: TokenVerifier): Promise<Response | undefined> {
  if (request.method === "OPTIONS") return undefined;
  const header = request.headers.get("authorization");
  if (!header) return json(401, { code: 401, message: "Missing authorization header" });
  const isValid = /^bearer /i.test(header) && !(await verify(header) instanceof Response);
  return isValid ? undefined : json(401, { code: 401, message: "Invalid JWT" });
}

async function passToFunction(
  request: Request,
  name: string,
  origin: string | null,
): Promise<Response> {
  const { pathname, search } = new URL(request.url);
  try {
    if (origin === null) throw new Error("it is not served now");
    return await fetch(origin + pathname.replace("/functions/v1", "") + search, {
      method: request.method,
      headers: forwarded(request),
      body: request.body,
      redirect: "manual",
      signal: request.signal, // a caller who hangs up ends the work for it
    });
  } catch {
    if (isPreflight(request)) return preflight(request);
    return unavailable(`The function ${name} does not answer.`);
  }
}

/** The request with a JWT for its API key, or the error for the key. */
function identify(request: Request, keys: Keys): Request | Response {
  const url = new URL(request.url);
  const key = request.headers.get("apikey") ?? url.searchParams.get("apikey");
  const headers = forwarded(request);
  const token = headers.get("authorization");
  const ownToken = token && !token.startsWith("Bearer sb_");
  const jwts = new Map([
    [keys.publishableKey, keys.anonKey],
    [keys.secretKey, keys.serviceRoleKey],
    [keys.anonKey, keys.anonKey],
    [keys.serviceRoleKey, keys.serviceRoleKey],
  ]);
  if (!ownToken) headers.delete("authorization");
  if (!WITHOUT_KEY.test(url.pathname)) {
    if (!key) {
      return json(401, {
        message: "No API key found in request",
        hint: "No `apikey` request header or url param was found.",
      });
    }
    const jwt = jwts.get(key);
    if (!jwt) return json(401, { message: "Invalid API key", hint: "Double check your API key." });
    if (!ownToken) headers.set("authorization", `Bearer ${jwt}`);
  }
  url.searchParams.delete("apikey");
  return new Request(url, { method: request.method, headers, body: request.body });
}

/** Links that a browser follows from a mail or from another site. */
const WITHOUT_KEY = /^\/auth\/v1\/(verify|authorize|callback|\.well-known\/jwks\.json)$/;

function forwarded(request: Request): Headers {
  const url = new URL(request.url);
  const headers = new Headers(request.headers);
  headers.delete("host");
  headers.set("x-forwarded-host", url.hostname);
  headers.set("x-forwarded-port", url.port);
  headers.set("x-forwarded-proto", "http");
  headers.set("x-forwarded-path", url.pathname);
  return headers;
}

function isPreflight(request: Request): boolean {
  return request.method === "OPTIONS" && request.headers.has("access-control-request-method");
}

function preflight(request: Request): Response {
  return new Response(null, {
    headers: {
      "access-control-allow-origin": "*",
      "access-control-allow-methods": "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT",
      "access-control-allow-headers": request.headers.get("access-control-request-headers") ?? "*",
      "access-control-max-age": "3600",
    },
  });
}

function withCors(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.set("access-control-allow-origin", "*");
  return new Response(response.body, { status: response.status, headers });
}

function unavailable(message: string): Response {
  return json(503, { message }, { "retry-after": "1" });
}

/** An answer of the gateway's own, which a page on another origin may read, too. */
function json(status: number, body: unknown, headers: HeadersInit = {}): Response {
  return withCors(Response.json(body, { status, headers }));
}
