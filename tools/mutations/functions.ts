import type { Row } from "./mutation.ts";

/** By the file that is broken, below supabase/functions/_shared. */
export const OF_THE_FUNCTIONS: Record<string, Row[]> = {
  "busy_answer": [
    [
      "a busy answer has a clock of the function's own",
      'const time = Date.parse(date ?? "");',
      'const time = Date.parse(date ?? "") || Date.now();',
      "contract/errors",
    ],
  ],
  "data_api": [
    [
      "a redirect is followed, with the credentials",
      'redirect: "manual",',
      'redirect: "follow",',
      "contract/errors",
    ],
    [
      "the trace ends at the function",
      "        ...(call.traceparent === undefined ? {} : { traceparent: call.traceparent }),\n",
      "",
      "contract/errors",
    ],
    [
      "an API key is passed on as a user's token",
      "header && !/^bearer\\s+sb_/i.test(header) ? header : null",
      "header",
      "contract/errors",
    ],
    [
      "the Data API does not learn the request's id",
      '        "x-request-id": call.requestId,\n',
      "",
      "contract/errors",
    ],
    [
      "a function adds a credential of its own",
      "        ...(authorization === null ? {} : { authorization }),",
      "        authorization: authorization ?? `Bearer ${apikey}`,",
      "contract/errors",
    ],
  ],
  "error_of_reply": [
    [
      "what the database raises itself loses its words",
      'return new RequestError("DATABASE_UNAVAILABLE", own);',
      'return new RequestError("DATABASE_UNAVAILABLE");',
      "contract/errors",
    ],
    [
      "a token that names no user is an error of the service",
      'if (own.message?.includes("type uuid")) {',
      "if (false) {",
      "contract/errors",
    ],
    [
      "broken rules that only the database knows are not reported",
      "        details: brokenRules(error.details),\n",
      "        details: [],\n",
      "contract/errors",
    ],
  ],
  "lock_function": [
    [
      "a Data API that hangs hangs the function",
      "AbortSignal.any([request.signal, deadline])",
      "request.signal",
      "contract/errors",
    ],
    [
      "a caller who is gone keeps the database at work",
      "AbortSignal.any([request.signal, deadline])",
      "deadline",
      "contract/errors",
    ],
    [
      "a busy database is not asked again",
      "  if (isBusy(reply)) reply = await callDatabase(call); // it was busy for a moment, mostly\n",
      "",
      "contract/errors",
    ],
    ["a busy lock is an error", "if (busy) return", "if (false) return", "contract/errors"],
    [
      "a browser may not name a region",
      "x-retry-count, x-region,",
      "x-retry-count,",
      "contract/errors",
    ],
    [
      "a trace may be any text",
      "/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/",
      "/./",
      "contract/errors",
    ],
    [
      "the time that the body took does not count",
      "AbortSignal.any([request.signal, deadline])",
      "AbortSignal.any([request.signal, AbortSignal.timeout(DEADLINE_MS)])",
      "contract/errors",
    ],
    [
      "a request leaves no line in the log",
      "        console.log(JSON.stringify(line));\n",
      "",
      "../../local/tests/log",
    ],
    [
      "the log has the caller's headers",
      "      const draft: LogDraft = {\n",
      "      const draft: LogDraft = {\n        cause: Object.fromEntries(request.headers),\n",
      "../../local/tests/log",
    ],
    [
      "a caller who hung up is a database in trouble",
      'draft.outcome = request.signal.aborted ? "CALLER_GONE" : known.code;',
      "draft.outcome = known.code;",
      "../../local/tests/faults",
      "a caller who hangs up",
    ],
    [
      "a caller learns the inside of an error",
      "    return errorResponse(known);",
      "    return errorResponse(Object.assign(known, { message: String(known.cause) }));",
      "contract/errors",
    ],
  ],
  "not_now": [
    ["transaction_timeout is for ever", "/^25P0[34]$/", "/^25P03$/", "contract/errors"],
    ["statement_timeout is for ever", "/^57/", "/^57P/", "contract/errors"],
    ["a standby is for ever", "/^25006$/", "/^25007$/", "contract/errors"],
    [
      "a redirect is for ever",
      "(status) => status < 400",
      "(status) => status < 300",
      "contract/errors",
    ],
    ["too many requests are for ever", "[408, 425, 429]", "[408, 425]", "contract/errors"],
    [
      "a deadlock is for ever",
      "/^40/",
      "/^40X/",
      "contract/errors",
    ],
    [
      "a full database is for ever",
      "/^53/",
      "/^53X/",
      "contract/errors",
    ],
    [
      "a database that takes no connections is for ever",
      "/^55000$/",
      "/^55001$/",
      "contract/errors",
    ],
    [
      "a gateway that reaches nobody is for ever",
      "[502, 503, 504]",
      "[502, 503]",
      "contract/errors",
    ],
    [
      "a proxy's own errors are for ever",
      "status >= 520",
      "status >= 560",
      "contract/errors",
    ],
    [
      "a 500 that is not the Data API's is for ever",
      'return status >= 500 && code === "" ||',
      "return",
      "contract/errors",
    ],
  ],
  "read_json_object": [
    [
      "a body that trickles is waited for",
      '  deadline.addEventListener("abort", giveUp);\n',
      "",
      "contract/errors",
    ],
    [
      "a body that came too late is read",
      '    if (deadline.aborted) throw new RequestError("REQUEST_TIMEOUT");\n',
      "",
      "contract/errors",
    ],
    [
      "a body has no limit",
      "if (bytes > MAX_BODY_BYTES) throw",
      "if (false) throw",
      "contract/errors",
    ],
    [
      "a body that is a list is read",
      "&& !Array.isArray(body)",
      "",
      "contract/errors",
    ],
    [
      "a compressed body is read as text",
      '|| encoding !== "identity"',
      "",
      "contract/errors",
    ],
  ],
  "requests": [
    [
      "null is refused",
      "take_over: z.nullish(flag)",
      "take_over: z.optional(flag)",
      "contract/errors",
    ],
    [
      "a name may come twice in a set, over HTTP",
      ").check(z.refine((names) => new Set(names).size === names.length, MESSAGES.databaseNames));",
      ");",
      "contract/both_doors",
    ],
    [
      "a holder's name is counted in UTF-16 units",
      "const { length } = [...text];",
      "const { length } = text;",
      "contract/errors",
    ],
    [
      "a place needs no lock_id, over HTTP",
      '(given, { queue_seconds }) => given("lock_id") || !(Number(queue_seconds) > 0)',
      "() => true",
      "contract/errors",
    ],
    [
      "a release need not say what, over HTTP",
      '      given("lock_id") || given("lock_holder_user_id") || given("force") && force !== false,',
      '      given("video_id") || force !== false,',
      "contract/errors",
    ],
  ],
};
