import fc from "fast-check";
import { Buffer } from "node:buffer";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";

/** A request that an attacker, or a broken client, might send. */
export interface HostileRequest {
  /** Which function, and what comes after its name in the URL. */
  path: string;
  method: string;
  headers: Record<string, string>;
  body: Uint8Array<ArrayBuffer>;
  /** Sent in pieces and without a length. */
  chunked: boolean;
}

/** What a hostile caller knows that is real. */
export interface Known {
  /** A video of a tenant that the callers belong to. */
  video: string;
  /** A video of another tenant. */
  otherVideo: string;
  /** A lease that is held. */
  lockId: string;
  secretKey: string;
  publishableKey: string;
  /** Access token of a user. */
  token: string;
}

/**
 * Requests that are almost right: of a good request some parts are left out, replaced or spoiled. Some of them stay
 * good, so that what lies behind the checks is reached too.
 *
 * @param known The good parts. The secret key is never sent for the other tenant's video, which it could change.
 * @returns An arbitrary; what it makes is for {@link send}.
 */
export function hostileRequest(known: Known): fc.Arbitrary<HostileRequest> {
  const json = { "content-type": "application/json" };
  return fc.constantFrom("lock-acquire", "lock-renew", "lock-release").chain((name) => {
    const onlyItsFields = goodCredentials(known).chain(({ trusted, ...credentials }) =>
      fields(name, known, trusted, true).map((members) => ({
        path: name,
        method: "POST",
        headers: { ...json, ...credentials },
        body: utf8(asObject(members)),
        chunked: false,
      }))
    );
    const anythingOfIt = credentials(known).chain(({ trusted, ...credentials }) =>
      fc.record({
        path: mostly(name, fc.constantFrom(...AFTERWARDS).map((rest) => name + rest)),
        method: mostly("POST", fc.constantFrom(...METHODS)),
        content: content(body(fields(name, known, trusted, false))),
        more: mostly({}, fc.dictionary(fc.constantFrom(...HEADERS), headerValue, { maxKeys: 3 })),
        chunked: fc.boolean(),
      }).map(({ path, method, content: { type, encoding, body }, more, chunked }) => ({
        path,
        method,
        headers: { ...more, ...type, ...encoding, ...credentials },
        body,
        chunked,
      }))
    );
    return fc.oneof(onlyItsFields, anythingOfIt);
  });
}

/**
 * Sends it over HTTP.
 *
 * @param base Where the functions are.
 * @param request What to send.
 * @returns The answer, and its text.
 */
export async function send(
  base: string,
  { path, method, headers, body, chunked }: HostileRequest,
): Promise<{ status: number; headers: Headers; text: string }> {
  const bodiless = method === "GET" || method === "HEAD";
  const response = await fetch(`${base}/${path}`, {
    method,
    headers,
    ...(bodiless ? {} : { body: chunked ? inPieces(body) : body }),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

function inPieces(body: Uint8Array<ArrayBuffer>): ReadableStream<Uint8Array<ArrayBuffer>> {
  const size = Math.max(1, Math.ceil(body.length / 3));
  let from = 0;
  return new ReadableStream({
    pull(controller) {
      if (from >= body.length) return controller.close();
      controller.enqueue(body.subarray(from, from += size));
    },
  });
}

/** The usual thing six times out of seven. */
function mostly<T>(usual: T, otherwise: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return fc.oneof({ weight: 6, arbitrary: fc.constant(usual) }, {
    weight: 1,
    arbitrary: otherwise,
  });
}

const METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "post", "M-SEARCH"];

const AFTERWARDS = [
  "/",
  "//",
  "/%00",
  "/x'--",
  "?",
  "?apikey=x",
  "?select=*",
  "?a[]=1&a[]=2",
  "#x",
];

const HEADERS = [
  "accept",
  "accept-profile",
  "content-profile",
  "cookie",
  "origin",
  "prefer",
  "range",
  "x-fencing-token",
  "x-forwarded-for",
  "x-http-method-override",
  "x-lock-id",
  "x-request-id",
];

// What means something to SQL, LIKE, arrays, JSON paths, shells, templates, paths, JavaScript or PostgreSQL's input.
const METACHARACTERS = [
  ..."'\"\\;%_$@?*(){}[]<>|&^~#`:,./ \0\n\r\t\x7f\u0085\u2028\u202e\ufeff\uffff\ud800\udfff😀",
  ..."'' -- /* */ $$ $1 || :: @? @@ ->> #> \\N \\x00 \\u0000 %00 %27 ../.. null NULL true NaN 0 1e309"
    .split(" "),
  "' or '1'='1",
  "'; drop table public.videos; --",
  "1; select pg_sleep(10)",
  "U&'\\0000'",
  "$.lock_id",
  '$[*] ? (@.a like_regex "(a+)+$")',
  "{a,b}",
  "${7*7}",
  "{{7*7}}",
  "<script>",
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
];

const utf16 = fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 20 })
  .map((units) => String.fromCharCode(...units));

const hostileString: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom("\0", "a\0b", "\ud800", "\udc00x", "'", '"', "\\", "%"), // what most often does harm
  fc.constantFrom(...METACHARACTERS),
  fc.array(fc.constantFrom(...METACHARACTERS), { maxLength: 8 }).map((parts) => parts.join("")),
  utf16, // with halves of surrogate pairs, which JSON.stringify writes as escapes
  fc.tuple(fc.constantFrom("x", "😀", "'", "é"), fc.constantFrom(63, 64, 255, 256, 3000))
    .map(([character, times]) => character.repeat(times)),
);

const headerValue = hostileString.map((text) =>
  text.replace(/[^\x20-\x7e\xa0-\xff]/g, "?").slice(0, 255)
);

const nested = fc.tuple(fc.constantFrom(["[", "]"], ['{"a":', ":0}"], ['{"a":', "}"]), fc.nat(3000))
  .map(([[open, close], depth]) => open!.repeat(depth) + "1" + close!.repeat(depth));

const NUMBERS = [
  ..."0 -0 -1 1.5 3601 120.0 1.2e2 1e309 -1e309 1e-400 0x10 01 NaN Infinity +1 1e99999999".split(
    " ",
  ),
  "9007199254740993",
  "9223372036854775808",
  "9".repeat(2000),
];

/** JSON as text, as a number may be larger and a key come twice; not all of it is JSON. */
const jsonText: fc.Arbitrary<string> = fc.oneof(
  { weight: 3, arbitrary: hostileString.map((text) => JSON.stringify(text)) },
  { weight: 2, arbitrary: fc.constantFrom(...NUMBERS) },
  { weight: 1, arbitrary: fc.constantFrom("null", "true", "false", "[]", "{}", '""', "[null]") },
  { weight: 1, arbitrary: hostileString.map((text) => JSON.stringify(["layout", text])) },
  { weight: 1, arbitrary: fc.jsonValue().map((value) => JSON.stringify(value)) },
  { weight: 1, arbitrary: nested },
);

/** The members of a request, as text; with at least one that is spoiled, or seldom with any. */
function fields(
  name: string,
  known: Known,
  trusted: boolean,
  spoil: boolean,
): fc.Arbitrary<[string, string][]> {
  const goodValues: Record<string, unknown[]> = {
    video_id: [known.video, known.video, trusted ? known.video.toUpperCase() : known.otherVideo],
    database_name: ["layout", "captions", "a-_9"],
    database_names: [["layout"], ["layout", "captions"], ["captions", "a-_9", "b"]],
    lock_id: [known.lockId, crypto.randomUUID()],
    ...(name === "lock-renew" ? { active: [true, false] } : {}),
    ...(name === "lock-acquire" ? { take_over: [false, true], queue_seconds: [0, 1, 60] } : {}),
    ...(name === "lock-release" ? { force: [false, true] } : { ttl_seconds: [600, 3600] }),
    ...(name === "lock-renew" ? {} : { lock_holder_user_id: ["worker-1", "worker-2"] }),
  };
  const good = Object.entries(goodValues).map(([field, values]) => {
    const value = fc.constantFrom(...values).map((value): [string, string] | null => [
      field,
      JSON.stringify(value),
    ]);
    const required = ["video_id", "database_name"].includes(field) ||
      name === "lock-renew" && field === "lock_id" && trusted ||
      name === "lock-acquire" && field === "lock_holder_user_id" && trusted;
    if (field === "database_names") return mostly(null, value);
    return required ? value : fc.oneof(value, fc.constant(null));
  });
  const key = fc.oneof(
    fc.constantFrom("__proto__", "constructor", "prototype", "toString", "", "VIDEO_ID"),
    fc.constantFrom(...Object.keys(goodValues)),
    hostileString,
  );
  const spoiled = fc.array(fc.tuple(fc.nat(9), jsonText), { minLength: 1, maxLength: 2 });
  return fc.record({
    good: fc.tuple(...good).map((members) => compatible(name, members.filter((m) => m !== null))),
    spoiled: spoil ? spoiled : mostly<[number, string][]>([], spoiled),
    missing: fc.oneof({ weight: 9, arbitrary: fc.constant(-1) }, {
      weight: 1,
      arbitrary: fc.nat(9),
    }),
    more: mostly<[string, string][]>([], fc.array(fc.tuple(key, jsonText), { maxLength: 3 })),
  }).map(({ good, spoiled, missing, more }) => {
    const members = good.map((member): [string, string] => [...member]);
    for (const [which, text] of spoiled) members[which % members.length]![1] = text;
    if (missing >= 0) members.splice(missing % members.length, 1);
    return [...members, ...more];
  });
}

/** Without what excludes another field: `database_name`, and of a release the holder beside a `lock_id` or force. */
function compatible(name: string, members: [string, string][]): [string, string][] {
  const has = (field: string) => members.some(([other]) => other === field);
  const forced = members.some(([field, text]) => field === "force" && text === "true");
  return members.filter(([field]) =>
    !(field === "database_name" && has("database_names")) &&
    !(field === "lock_holder_user_id" && name === "lock-release" && (has("lock_id") || forced))
  );
}

/** The bytes of a body, of whose members some are good. */
function body(fields: fc.Arbitrary<[string, string][]>): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  const good = fields.map(asObject);
  return fc.oneof(
    { weight: 24, arbitrary: good.map(utf8) },
    {
      weight: 2, // as long as is just allowed, or just not
      arbitrary: fc.tuple(good, fc.integer({ min: -1, max: 1 })).map(([text, more]) =>
        utf8(text + " ".repeat(Math.max(0, 16 * 1024 + more - utf8(text).length)))
      ),
    },
    { weight: 1, arbitrary: good.map((text) => utf8("\ufeff" + text)) },
    { weight: 1, arbitrary: good.map((text) => utf8(`[${text}]`)) },
    { weight: 1, arbitrary: good.map((text) => utf8(text + text)) },
    { weight: 1, arbitrary: good.map((text) => new Uint8Array(Buffer.from(text, "utf16le"))) },
    {
      weight: 1,
      arbitrary: fc.tuple(good, fc.nat()).map(([text, at]) =>
        utf8(text.slice(0, at % text.length))
      ),
    },
    {
      weight: 2, // a byte that is not UTF-8, or an overlong one, somewhere
      arbitrary: fc.tuple(
        good,
        fc.nat(),
        fc.constantFrom([0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xe2]),
      )
        .map(([text, at, bytes]) => {
          const good = utf8(text);
          const where = at % (good.length + 1);
          return new Uint8Array([...good.subarray(0, where), ...bytes, ...good.subarray(where)]);
        }),
    },
    { weight: 1, arbitrary: jsonText.map(utf8) },
    { weight: 1, arbitrary: fc.nat(30_000).map((depth) => utf8("[".repeat(depth))) },
    {
      weight: 1,
      arbitrary: fc.uint8Array({ maxLength: 100 }).map((bytes) => new Uint8Array(bytes)),
    },
    { weight: 1, arbitrary: hostileString.map(utf8) },
  );
}

function asObject(members: [string, string][]): string {
  return `{${members.map(([key, text]) => `${JSON.stringify(key)}:${text}`).join(",")}}`;
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

const COMPRESSIONS: Record<string, (bytes: Uint8Array) => Uint8Array> = {
  gzip: gzipSync,
  br: brotliCompressSync,
  deflate: deflateSync,
};

/** How a body is declared, and whether it is as it is declared. */
function content(body: fc.Arbitrary<Uint8Array<ArrayBuffer>>) {
  const json: Record<string, string> = { "content-type": "application/json" };
  const types = fc.oneof(
    fc.constantFrom(
      ...[
        "application/json;charset=utf-16",
        "APPLICATION/JSON",
        "application/jsonp",
        "application/vnd.api+json",
        "application/json, text/plain",
        "text/plain",
        "text/plain;application/json",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        ";",
      ].map((type): Record<string, string> => ({ "content-type": type })),
    ),
    fc.constant({}),
    headerValue.map((type): Record<string, string> => ({ "content-type": type })),
  );
  const encodings = fc.record({
    real: fc.constantFrom(undefined, ...Object.keys(COMPRESSIONS)),
    declared: fc.oneof(
      fc.constantFrom(undefined, "identity", "gzip, gzip", "x-gzip", ...Object.keys(COMPRESSIONS)),
      headerValue,
    ),
  });
  return fc.record({
    type: mostly(json, types),
    encoding: mostly({ real: undefined, declared: undefined }, encodings),
    body,
  }).map(({ type, encoding: { real, declared }, body }) => ({
    type,
    encoding: declared === undefined ? {} : { "content-encoding": declared },
    body: real === undefined ? body : new Uint8Array(COMPRESSIONS[real]!(body)),
  }));
}

interface Credentials {
  /** With the secret key. */
  trusted: boolean;
  apikey?: string;
  authorization?: string;
}

function goodCredentials({ secretKey, publishableKey, token }: Known): fc.Arbitrary<Credentials> {
  return fc.constantFrom<Credentials>(
    { trusted: true, apikey: secretKey },
    { trusted: false, apikey: publishableKey, authorization: `Bearer ${token}` },
  );
}

/** Good credentials, spoiled ones, and none. */
function credentials(known: Known): fc.Arbitrary<Credentials> {
  const { secretKey, publishableKey, token } = known;
  const tampered = fc.tuple(fc.nat(token.length - 2), fc.constantFrom(..."Aa0-_.=")).map(
    ([at, character]) =>
      `Bearer ${token.slice(0, at)}${token[at] === character ? "B" : character}${
        token.slice(at + 1)
      }`,
  );
  const authorization = fc.oneof(
    tampered,
    headerValue,
    headerValue.map((text) => `Bearer ${text}`),
    fc.constantFrom(
      "Bearer",
      "bearer a.b.c",
      "Basic YTpi",
      `Bearer ${publishableKey}`,
      "Bearer null",
    ),
    fc.constant(`Bearer ${"x".repeat(8000)}`),
  );
  const spoiled: fc.Arbitrary<Omit<Credentials, "trusted">> = fc.oneof(
    fc.constantFrom({}, { apikey: publishableKey }),
    headerValue.map((apikey) => ({ apikey })),
    authorization.map((authorization) => ({ authorization })),
    authorization.map((authorization) => ({ apikey: publishableKey, authorization })),
  );
  return fc.oneof(
    { weight: 8, arbitrary: goodCredentials(known) },
    { weight: 2, arbitrary: spoiled.map((headers) => ({ trusted: false, ...headers })) },
    {
      weight: 1,
      arbitrary: authorization.map((authorization) => ({
        trusted: true,
        apikey: secretKey,
        authorization,
      })),
    },
  );
}
