// What the gateway answers by itself can be read by a page on another origin: without CORS headers a browser would show
// it an error of the network.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createClient, FunctionsHttpError } from "@supabase/supabase-js";
import { startGateway, type Upstreams } from "../gateway.ts";
import { readKeys } from "../keys.ts";
import { temporaryFolder } from "./support/project.ts";

/** A gateway with this behind it, or one whose stack is still starting. */
async function gateway(upstreams?: Partial<Upstreams>) {
  await using folder = await temporaryFolder();
  const keys = await readKeys(`${folder.path}/keys.json`);
  const running = startGateway(0, keys);
  if (upstreams) {
    running.open({
      rest: () => Promise.reject(new Error("not for this test")),
      auth: () => Promise.reject(new Error("not for this test")),
      functionOrigin: () => undefined,
      verifies: () => false,
      ...upstreams,
    });
  }
  return { url: running.url, keys, [Symbol.asyncDispose]: () => running.close() };
}

/** Asks as a browser does: the preflight first, for all the headers that supabase-js may send. */
async function fromAnotherOrigin(url: string): Promise<{ status: number; body: unknown }> {
  const names = "apikey, authorization, content-type, x-client-info, x-region";
  const preflight = await fetch(url, {
    method: "OPTIONS",
    headers: {
      origin: "https://app.example.com",
      "access-control-request-method": "POST",
      "access-control-request-headers": names,
    },
  });
  await preflight.body?.cancel();
  assert(preflight.ok, `preflight: ${preflight.status}`);
  assertEquals(preflight.headers.get("access-control-allow-origin"), "*");
  const allowed = preflight.headers.get("access-control-allow-headers")!.toLowerCase();
  for (const name of names.split(", ")) assert(allowed.includes(name), `${name} in ${allowed}`);
  assertMatch(preflight.headers.get("access-control-allow-methods")!, /POST/);

  const answer = await fetch(url, {
    method: "POST",
    headers: { origin: "https://app.example.com", "x-region": "eu-central-1" },
    body: "{}",
  });
  assertEquals(answer.headers.get("access-control-allow-origin"), "*");
  if (answer.status === 503) assertEquals(answer.headers.get("retry-after"), "1");
  return { status: answer.status, body: await answer.json() };
}

/** A port where nothing listens. */
const NOWHERE = "http://127.0.0.1:9";

for (
  const [what, upstreams, path, status, message] of [
    ["while the stack starts", undefined, "/functions/v1/any", 503, "The stack is starting."],
    ["while the stack starts", undefined, "/rest/v1/videos", 503, "The stack is starting."],
    [
      "a function that there is not",
      {},
      "/functions/v1/none",
      404,
      "Requested function was not found",
    ],
    [
      "a function that never came up",
      { functionOrigin: () => null },
      "/functions/v1/down",
      503,
      "The function down does not answer.",
    ],
    [
      "a function that has died",
      { functionOrigin: () => NOWHERE },
      "/functions/v1/dead",
      503,
      "The function dead does not answer.",
    ],
    [
      "a function that wants a JWT",
      { functionOrigin: () => NOWHERE, verifies: () => true },
      "/functions/v1/strict",
      401,
      "Missing authorization header",
    ],
    ["no API key", {}, "/rest/v1/videos", 401, "No API key found in request"],
    ["an address that means nothing", {}, "/nothing", 404, "no Route matched with those values"],
  ] as [string, Partial<Upstreams> | undefined, string, number, string][]
) {
  Deno.test(`a page on another origin can read ${status} (${what}: ${path})`, async () => {
    await using running = await gateway(upstreams);
    const { status: got, body } = await fromAnotherOrigin(running.url + path);
    assertEquals([got, (body as { message: string }).message], [status, message]);
  });
}

Deno.test("a function answers its own preflight, with any headers that the caller wants to send", async () => {
  const seen: [string, string | null][] = [];
  const own = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    seen.push([request.method, request.headers.get("access-control-request-headers")]);
    return new Response("the function's own", {
      headers: { "access-control-allow-origin": "https://app.example.com" },
    });
  });
  try {
    await using running = await gateway({
      functionOrigin: () => `http://127.0.0.1:${own.addr.port}`,
    });
    const response = await fetch(`${running.url}/functions/v1/own`, {
      method: "OPTIONS",
      headers: {
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-region",
      },
    });
    assertEquals(await response.text(), "the function's own");
    assertEquals(response.headers.get("access-control-allow-origin"), "https://app.example.com");
    assertEquals(seen, [["OPTIONS", "x-region"]]);
  } finally {
    await own.shutdown();
  }
});

Deno.test("supabase-js reads what the gateway says", async () => {
  await using running = await gateway({});
  const supabase = createClient(running.url, running.keys.publishableKey, {
    auth: { persistSession: false, autoRefreshToken: false },
  });
  const { error } = await supabase.functions.invoke("none", {
    body: {},
    region: "eu-central-1" as never,
  });
  assert(error instanceof FunctionsHttpError);
  assertEquals((await error.context.json()).code, "NOT_FOUND");
});
