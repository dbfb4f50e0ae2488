import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { publishableKey, secretKey, url as upstream } from "../../supabase/tests/support/stack.ts";
import type { User } from "../../supabase/tests/support/tenant.ts";

/** What the network does to one call. */
export type Fault =
  /** Nothing. */
  | "pass"
  /** The request never arrives; the connection is reset. */
  | "drop"
  /** The request is done; the connection is reset before its answer. */
  | "lose"
  /** The request is done; the connection is reset in the middle of its answer. */
  | "cut"
  /** The request arrives twice at the same time; the caller gets the second answer. */
  | "double"
  /** The request arrives, and once more a quarter of a second later, when nobody waits for it. */
  | "repeat"
  /** The answer takes 300 ms. */
  | "late"
  /** The request takes 300 ms on its way. */
  | "slow"
  /** A gateway in between answers 503. */
  | "unavailable"
  /** Something in between answers 401. */
  | "unauthorized";

/** All but `pass`. */
export const FAULTS = [
  "drop",
  "lose",
  "cut",
  "double",
  "repeat",
  "late",
  "slow",
  "unavailable",
  "unauthorized",
] as const satisfies Fault[];

/** One call of a lock function. */
export interface Call {
  /** Name of the function. */
  name: string;
  /** Which call of that function it is, from 0 on. */
  number: number;
  body: Record<string, unknown>;
  /** When it came, on the monotonic clock. */
  at: number;
  /** Whether all that the fault had in mind for it is done. */
  isAnswered: boolean;
}

/** A network between clients and the stack, with faults. */
export interface Proxy extends AsyncDisposable {
  /** What happens to a call from now on. */
  plan: (call: Call) => Fault;
  /** All calls so far. */
  readonly calls: Call[];
  /** A user's client, or with none a worker's, whose calls go through the proxy. */
  client(user?: User): SupabaseClient;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Starts a proxy. Only calls of functions have faults.
 *
 * @returns The proxy; close it with `await using`. It waits for what is still under way.
 */
export async function startProxy(): Promise<Proxy> {
  const calls: Call[] = [];
  const underWay = new Set<Promise<unknown>>();
  const track = <T>(work: Promise<T>) => {
    underWay.add(work);
    return work.finally(() => underWay.delete(work));
  };
  const server = createServer((request, response) => {
    track(handle(request, response)).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
    const send = () => track(forward(request, body));
    const name = /^\/functions\/v1\/([\w-]+)/.exec(request.url!)?.[1];
    if (!name || request.method !== "POST") return await answer(response, await send());
    const number = calls.filter((call) => call.name === name).length;
    const call = {
      name,
      number,
      body: JSON.parse(new TextDecoder().decode(body)),
      at: performance.now(),
      isAnswered: false,
    };
    calls.push(call);
    await suffer(proxy.plan(call), send, response, request);
    call.isAnswered = true;
  }

  const proxy: Proxy = {
    plan: () => "pass",
    calls,
    client: (user) =>
      createClient(`http://127.0.0.1:${port}`, user ? publishableKey : secretKey, {
        auth: { persistSession: false, autoRefreshToken: false },
        ...(user ? { accessToken: () => Promise.resolve(user.token) } : {}),
      }),
    async [Symbol.asyncDispose]() {
      while (underWay.size > 0) await Promise.allSettled(underWay);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

/** An answer of the stack. */
interface Reply {
  status: number;
  headers: Headers;
  body: Uint8Array;
}

async function forward(
  { url, method, headers }: IncomingMessage,
  body: Uint8Array,
): Promise<Reply> {
  const { host: _, connection: __, "content-length": ___, ...kept } = headers;
  const response = await fetch(upstream + url, {
    method: method!,
    headers: kept as Record<string, string>,
    ...(body.length > 0 ? { body: body as BodyInit } : {}),
  });
  return {
    status: response.status,
    headers: response.headers,
    body: new Uint8Array(await response.arrayBuffer()),
  };
}

async function answer(
  response: ServerResponse,
  reply: Reply,
  bytes = reply.body.length,
): Promise<void> {
  const { "content-encoding": _, "transfer-encoding": __, ...headers } = Object.fromEntries(
    reply.headers,
  );
  response.writeHead(reply.status, { ...headers, "content-length": String(reply.body.length) });
  await new Promise<void>((resolve) =>
    response.write(reply.body.subarray(0, bytes), () => resolve())
  );
  if (bytes === reply.body.length) response.end();
}

async function suffer(
  fault: Fault,
  send: () => Promise<Reply>,
  response: ServerResponse,
  request: IncomingMessage,
): Promise<void> {
  const gateway = (status: number) => {
    const body = new TextEncoder().encode("<h1>not the service's own words</h1>");
    return answer(response, {
      status,
      headers: new Headers({ "content-type": "text/html" }),
      body,
    });
  };
  switch (fault) {
    case "drop":
      request.socket.destroy();
      return;
    case "lose":
      await send();
      request.socket.destroy();
      return;
    case "cut": {
      const reply = await send();
      await answer(response, reply, reply.body.length >> 1);
      request.socket.destroy();
      return;
    }
    case "double": {
      const [, second] = await Promise.all([send(), send()]);
      return await answer(response, second);
    }
    case "repeat":
      await answer(response, await send());
      await pause(250);
      await send();
      return;
    case "late": {
      const reply = await send();
      await pause(300);
      return await answer(response, reply);
    }
    case "slow":
      await pause(300);
      return await answer(response, await send());
    case "unavailable":
      return await gateway(503);
    case "unauthorized":
      return await gateway(401);
    case "pass":
      return await answer(response, await send());
  }
}
