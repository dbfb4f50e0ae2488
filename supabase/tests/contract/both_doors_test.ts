// The rules stand twice: in supabase/functions/_shared, so that a caller hears of every broken rule at once, and in SQL, for
// callers of the RPCs. Here each value at the edge of a rule goes through both doors, and both have to say the same.
import { assertEquals } from "@std/assert";
import type { SupabaseClient } from "@supabase/supabase-js";
import type { BrokenRule } from "../../functions/_shared/contract.ts";
import { ERRORS, GUARD_ERRORS, type Raised } from "../../functions/_shared/errors.ts";
import {
  DATABASE_NAME,
  DATABASE_NAMES,
  END_REASONS,
  HOLDER_CHARACTERS,
  QUEUE_SECONDS,
  TTL_SECONDS,
} from "../../functions/_shared/rules.ts";
import { openSession, type Session } from "../support/race.ts";
import { acquire, invoke, sql } from "../support/stack.ts";
import { newTenant, type Tenant } from "../support/tenant.ts";

const VERBS = ["acquire", "renew", "release"] as const;
type Verb = typeof VERBS[number];
type Fields = Record<string, unknown>;

/** What a caller hears: `answered`, or the code of an error, and the rules that it names. */
interface Heard {
  code: string;
  rules: BrokenRule[];
}

/** Only HTTP names the unknown fields, and the field of a value of the wrong type: PostgreSQL's JSON reader does not. */
const UNREADABLE = "unreadable";

async function throughHttp(caller: SupabaseClient, verb: Verb, fields: Fields): Promise<Heard> {
  const { status, body } = await invoke(caller, `lock-${verb}`, fields);
  return status === 200
    ? { code: "answered", rules: [] }
    : { code: body.code!, rules: sorted(body.details ?? []) };
}

async function throughRpc(caller: SupabaseClient, verb: Verb, fields: Fields): Promise<Heard> {
  const { error } = await caller.rpc(`${verb}_lock`, fields);
  if (!error) return { code: "answered", rules: [] };
  const known = Object.entries(ERRORS).find(([, kind]) =>
    "sql" in kind && kind.sql.state === error.code
  );
  if (known) {
    const rules = known[0] === "INVALID_REQUEST" ? sorted(JSON.parse(error.details)) : [];
    return { code: known[0], rules };
  }
  // 22: not a value of the type; PGRST202: not an argument, or one that is missing
  if (/^22|^PGRST202$/.test(error.code)) return { code: UNREADABLE, rules: [] };
  throw new Error(`${verb}_lock ${JSON.stringify(fields)}: ${error.code} ${error.message}`);
}

function sorted(rules: BrokenRule[]): BrokenRule[] {
  return rules.map(({ path, message }) => ({ path, message }))
    .toSorted((a, b) => (a.path + a.message).localeCompare(b.path + b.message));
}

/**
 * Sends a request through both doors: about a video that there is, and about one that there is not, whose rules are
 * judged before it is looked for.
 */
async function assertBothSay(
  tenant: Tenant,
  verb: Verb,
  fields: Fields,
  differ?: "unreadable to PostgreSQL" | "taken by PostgreSQL",
): Promise<Heard> {
  let heard: Heard | undefined;
  const videos = "video_id" in fields
    ? [fields.video_id]
    : [await tenant.addVideo(), crypto.randomUUID()];
  for (const video_id of videos) {
    const request = { ...fields, video_id };
    const http = await throughHttp(tenant.server, verb, request);
    const rpc = await throughRpc(tenant.server, verb, request);
    const note = `${verb} ${JSON.stringify(request).slice(0, 200)}`;
    if (differ) {
      assertEquals(http.code, "INVALID_REQUEST", note);
      assertEquals(
        rpc.code === UNREADABLE,
        differ === "unreadable to PostgreSQL",
        `${note} ${rpc.code}`,
      );
      assertEquals(rpc.rules, [], note);
    } else {
      assertEquals(http, rpc, note);
    }
    heard ??= http;
  }
  return heard!;
}

const characters = (n: number, of = "x") => of.repeat(n);
const names = (n: number) => Array.from({ length: n }, (_, i) => `layer-${i}`);
const ID = crypto.randomUUID();

/** A request that breaks no rule, for each function. */
const VALID: Record<Verb, Fields> = {
  acquire: { database_name: "layout", lock_holder_user_id: "worker-1", lock_id: ID },
  renew: { database_name: "layout", lock_id: ID },
  release: { database_name: "layout", lock_id: ID },
};

/** Sends the valid request of each function with one field changed. */
async function assertFieldAgrees(
  verbs: readonly Verb[],
  field: string,
  { accepted = [], broken = [], unreadable = [], wider = [] }: {
    accepted?: unknown[];
    /** An error through both, in the same words. */
    broken?: unknown[];
    /** Of a type that PostgreSQL cannot read as its own: it says so without naming the field. */
    unreadable?: unknown[];
    /** Of another JSON type, which PostgreSQL reads as its own, and which is an error over HTTP. */
    wider?: unknown[];
  },
): Promise<void> {
  await using tenant = await newTenant();
  for (const verb of verbs) {
    const request = (value: unknown) => {
      const fields: Fields = { ...VALID[verb], [field]: value };
      if (field === "database_names" && value != null) delete fields.database_name;
      if (field === "lock_holder_user_id" && verb === "release") delete fields.lock_id;
      return fields;
    };
    for (const value of accepted) {
      const { code } = await assertBothSay(tenant, verb, request(value));
      assertEquals(code === "INVALID_REQUEST", false, `${verb} ${field} ${value}`);
    }
    for (const value of broken) {
      const { code } = await assertBothSay(tenant, verb, request(value));
      assertEquals(code, "INVALID_REQUEST", `${verb} ${field} ${value}`);
    }
    for (const value of unreadable) {
      await assertBothSay(tenant, verb, request(value), "unreadable to PostgreSQL");
    }
    for (const value of wider) {
      await assertBothSay(tenant, verb, request(value), "taken by PostgreSQL");
    }
  }
}

Deno.test("both doors: video_id", () =>
  assertFieldAgrees(VERBS, "video_id", {
    accepted: [ID, ID.toUpperCase(), "00000000-0000-0000-0000-000000000000"],
    broken: [null],
    unreadable: ["", "1", ID.slice(1), `${ID}0`, 7, true, {}, []],
    wider: [`{${ID}}`, ID.replaceAll("-", "")],
  }));

Deno.test("both doors: lock_id", async () => {
  await assertFieldAgrees(VERBS, "lock_id", {
    accepted: [ID, ID.toUpperCase()],
    unreadable: ["", "1", 7, true, {}, []],
    wider: [`{${ID}}`],
  });
  await assertFieldAgrees(["acquire"], "lock_id", { accepted: [null] });
  await assertFieldAgrees(["renew", "release"], "lock_id", { broken: [null] });
});

Deno.test("both doors: database_name", () =>
  assertFieldAgrees(VERBS, "database_name", {
    accepted: ["a", "z9", "a-_9", `a${characters(62, "b")}`],
    broken: [
      null,
      "",
      "A",
      "1a",
      "_a",
      "-a",
      "a b",
      "a.b",
      "a\n",
      "\na",
      " a",
      "é",
      "aé",
      "a😀",
      "aA",
      `a${characters(63, "b")}`,
      // other JSON types are text to PostgreSQL, and break the pattern too
      7,
      {},
      ["a"],
    ],
    wider: [true],
  }));

Deno.test("both doors: database_names", () =>
  assertFieldAgrees(VERBS, "database_names", {
    accepted: [
      null,
      names(DATABASE_NAMES.min),
      names(DATABASE_NAMES.max),
      ["b", "a"],
      [`a${characters(62, "b")}`],
    ],
    broken: [
      [],
      names(DATABASE_NAMES.max + 1),
      ["a", "a"],
      ["a", "b", "a"],
      ["A"],
      ["a", ""],
      ["a", "a\n"],
      [`a${characters(63, "b")}`],
      [null],
      ["a", null],
      [7],
      [["a"], ["b"]],
      ["a", ["b"]],
      [{}],
    ],
    unreadable: ["layout", 7, true, {}],
    wider: ["{a,b}", [true]],
  }));

Deno.test("both doors: one of database_name and database_names", async () => {
  await using tenant = await newTenant();
  for (const verb of VERBS) {
    const { database_name, ...rest } = VALID[verb];
    const both = { database_name, database_names: ["captions"] };
    for (
      const more of [{}, both, { ...both, database_name: "A" }, { ...both, database_names: [] }]
    ) {
      const { code } = await assertBothSay(tenant, verb, { ...rest, ...more });
      assertEquals(code, "INVALID_REQUEST");
    }
  }
});

Deno.test("both doors: lock_holder_user_id", async () => {
  await assertFieldAgrees(["acquire", "release"], "lock_holder_user_id", {
    accepted: [
      characters(HOLDER_CHARACTERS.min),
      characters(HOLDER_CHARACTERS.max),
      characters(HOLDER_CHARACTERS.max, "😀"),
      " ",
      "\n",
      "'; drop table videos; --",
    ],
    broken: [
      "",
      characters(HOLDER_CHARACTERS.max + 1),
      characters(HOLDER_CHARACTERS.max + 1, "😀"),
    ],
    unreadable: ["nul\0", "half \ud800", "half \udc00 of it"],
    wider: [7, true, {}, []],
  });
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  for (const verb of ["acquire", "release"] as const) {
    const { lock_id: _, ...rest } = VALID[verb];
    for (
      const [holder, code] of [[anna.id, "answered"], ["ben", "FORBIDDEN"], ["", "INVALID_REQUEST"]]
    ) {
      const fields = { ...rest, video_id: tenant.video, lock_holder_user_id: holder };
      const heard = [
        await throughHttp(anna.client, verb, fields),
        await throughRpc(anna.client, verb, fields),
      ];
      assertEquals(heard.map(({ code }) => code), [code, code], `${verb} ${holder}`);
      assertEquals(heard[0], heard[1]);
    }
  }
  const none = { video_id: tenant.video, database_name: "layout" };
  const { code } = await assertBothSay(tenant, "acquire", none);
  assertEquals(code, "INVALID_REQUEST", "a server has to name itself");
});

Deno.test("both doors: ttl_seconds", () =>
  assertFieldAgrees(["acquire", "renew"], "ttl_seconds", {
    accepted: [null, TTL_SECONDS.min, TTL_SECONDS.max],
    broken: [TTL_SECONDS.min - 1, TTL_SECONDS.max + 1, -1, 2_147_483_647, -2_147_483_648],
    unreadable: [1.5, 2_147_483_648, 1e300, "", "x", true, {}, []],
    wider: ["120"],
  }));

Deno.test("both doors: queue_seconds", async () => {
  await assertFieldAgrees(["acquire"], "queue_seconds", {
    accepted: [null, QUEUE_SECONDS.min, QUEUE_SECONDS.max],
    broken: [QUEUE_SECONDS.min - 1, QUEUE_SECONDS.max + 1, 2_147_483_647],
    unreadable: [0.5, 1e300, "x", true, {}, []],
    wider: ["10"],
  });
  await using tenant = await newTenant();
  const withoutId = { ...VALID.acquire, lock_id: null };
  for (const [queue_seconds, code] of [[0, "answered"], [1, "INVALID_REQUEST"]] as const) {
    const heard = await assertBothSay(tenant, "acquire", { ...withoutId, queue_seconds });
    assertEquals(heard.code, code);
  }
});

Deno.test("both doors: the flags", async () => {
  const flag = {
    accepted: [null, true, false],
    unreadable: [7, "x", "", {}, []],
    wider: ["true", "off", 0, 1],
  };
  await assertFieldAgrees(["acquire"], "take_over", flag);
  await assertFieldAgrees(["renew"], "active", flag);
  await assertFieldAgrees(["release"], "force", flag);
});

Deno.test("both doors: what a release has to name", async () => {
  await using tenant = await newTenant();
  const lock_id = crypto.randomUUID();
  const lock_holder_user_id = "worker-1";
  const cases: [target: Fields, isError: boolean][] = [
    [{}, true],
    [{ force: false }, true],
    [{ lock_id: null, lock_holder_user_id: null, force: null }, true],
    [{ lock_id }, false],
    [{ lock_holder_user_id }, false],
    [{ force: true }, false],
    [{ lock_id, force: true }, false],
    [{ lock_id, force: false }, false],
    [{ lock_holder_user_id, force: false }, false],
    [{ lock_id, lock_holder_user_id }, true],
    [{ lock_holder_user_id, force: true }, true],
    [{ lock_id, lock_holder_user_id, force: true }, true],
  ];
  for (const [target, isError] of cases) {
    const heard = await assertBothSay(tenant, "release", { database_name: "layout", ...target });
    assertEquals(heard.code === "INVALID_REQUEST", isError, JSON.stringify(target));
  }
});

Deno.test("both doors: every broken rule at once; only HTTP knows a missing video_id and an unknown field by name", async () => {
  await using tenant = await newTenant();
  const all = {
    video_id: null,
    database_name: "A",
    database_names: [],
    lock_holder_user_id: "",
    lock_id: null,
  };
  for (const database_names of [[], ["a", "a"]]) {
    for (const verb of ["acquire", "release"] as const) {
      const heard = await assertBothSay(tenant, verb, {
        ...all,
        database_names,
        ...(verb === "acquire" ? { ttl_seconds: 0, queue_seconds: 99 } : {}),
      });
      assertEquals(heard.rules.length, verb === "acquire" ? 8 : 5);
    }
  }
  for (const verb of VERBS) {
    for (
      const [fields, path] of [[VALID[verb], "video_id"], [{
        ...VALID[verb],
        video_id: tenant.video,
        more: 1,
      }, "more"]] as const
    ) {
      const http = await throughHttp(tenant.server, verb, fields);
      assertEquals(http.rules.map((rule) => rule.path), [path]);
      assertEquals((await throughRpc(tenant.server, verb, fields)).code, UNREADABLE);
    }
  }
});

Deno.test("what SQL raises is the error table's: SQLSTATE, message and hint", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(tenant.server, {
    video_id: tenant.video,
    database_name: "layout",
    lock_holder_user_id: "worker-1",
  });
  const token = lock!.fencing_token;
  await using nobody = openSession({ role: "authenticated" });
  await using user = openSession({ role: "authenticated", sub: anna.id });
  await using server = openSession({ role: "service_role" });
  await using granting = openSession();
  const raised = async ({ run }: Session, call: string, ...values: (string | number)[]) => {
    const error = await run.unsafe(`select public.${call}`, values).catch((error) => error);
    return { state: error.code, message: error.message, hint: error.hint };
  };
  const is = (kind: { message: string; hint: string; sql: Raised }, message?: string): Raised => ({
    state: kind.sql.state,
    message: kind.sql.message === null ? message! : kind.sql.message ?? kind.message,
    hint: kind.sql.hint ?? kind.hint,
  });
  const { video } = tenant;
  const other = crypto.randomUUID();
  assertEquals(
    await raised(server, "acquire_lock($1, 'layout', ttl_seconds => 0)", video),
    is(ERRORS.INVALID_REQUEST),
  );
  assertEquals(
    await raised(nobody, "acquire_lock($1, 'layout')", video),
    is(ERRORS.NOT_AUTHENTICATED),
  );
  assertEquals(
    await raised(user, "acquire_lock($1, 'layout', 'ben')", video),
    is(ERRORS.FORBIDDEN, "A user can acquire a lock only for themselves"),
  );
  assertEquals(await raised(user, "acquire_lock($1, 'layout')", other), is(ERRORS.VIDEO_NOT_FOUND));
  const assert = "assert_lock_held($1, 'layout', $2)";
  assertEquals(await raised(server, assert, video, token + 1), is(GUARD_ERRORS.LOCK_NOT_HELD));
  await granting.run`begin`;
  await granting.run`
    select from public.video_database_state where video_id = ${video} for update`;
  assertEquals(await raised(server, assert, video, token), is(GUARD_ERRORS.LOCK_BUSY));
  await granting.run`rollback`;

  const states = [...Object.values(ERRORS), ...Object.values(GUARD_ERRORS)].flatMap((kind) =>
    "sql" in kind ? [kind.sql.state] : []
  );
  const [inSql] = await sql<{ states: string[] }[]>`
    select array_agg(distinct state[1] order by state[1]) as states
    from pg_catalog.pg_proc p,
      regexp_matches(p.prosrc, 'errcode = ''(PT\\d+)''', 'g') as state
    where p.pronamespace in ('holdfast'::regnamespace, 'public'::regnamespace)`;
  assertEquals(inSql?.states, states.toSorted(), "each code that SQL raises is in the table");
});

Deno.test("the end reasons are those of the database: of leases, and cancelled of what never came to one", async () => {
  const [domain] = await sql<{ reasons: string[] }[]>`
    select array_agg(reason[1]) as reasons
    from pg_catalog.pg_constraint c, regexp_matches(pg_get_constraintdef(c.oid), '''(\\w+)''', 'g') as reason
    where c.contypid = 'holdfast.end_reason'::regtype`;
  assertEquals(
    domain!.reasons.toSorted(),
    END_REASONS.filter((reason) => reason !== "cancelled").toSorted(),
  );
});

Deno.test("a database's name has one pattern: in the rules, in SQL and in the domain", async () => {
  const patterns = await sql<{ pattern: string }[]>`
    select distinct pattern[1] as pattern from (
      select pg_get_constraintdef(c.oid) from pg_catalog.pg_constraint c
      where c.contypid = 'holdfast.database_name'::regtype
      union all
      select p.prosrc from pg_catalog.pg_proc p where p.pronamespace = 'holdfast'::regnamespace
    ) t (text), regexp_matches(t.text, '''(\\^\\[a-z\\][^'']*\\$)''', 'g') as pattern`;
  assertEquals(patterns.map(({ pattern }) => pattern), [DATABASE_NAME.source]);
});
