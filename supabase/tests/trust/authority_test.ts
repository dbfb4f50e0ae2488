// Who may do what. docs/reference/authority.md says it in a table; here each cell of that table is acted out over HTTP, in a
// situation of its own, and judged by the rows before and after. Where the docs or a grant change, this fails.
import { assert, assertEquals } from "@std/assert";
import { ERRORS } from "../../functions/_shared/errors.ts";
import { type Caller, CALLERS, canSign, credentials, readMatrix } from "../support/authority.ts";
import { OWN_IN_PUBLIC } from "../support/own_objects.ts";
import { plantLease } from "../support/plant_lease.ts";
import { secretKey, sql, url } from "../support/stack.ts";
import { newTenant, type Tenant, type User, user } from "../support/tenant.ts";

/** What a cell finds. */
interface Situation {
  tenant: Tenant;
  caller: Caller;
  /** Who calls, or whose token was forged. */
  me: User;
  /** A member of the tenant, and never the caller. */
  ben: User;
  /** Of the lease that {@link lease} made. */
  lockId: string;
  /** A user of no tenant. */
  stranger: User;
  /** A tenant that the caller would like to belong to. */
  elsewhere: string;
}

/** One request. */
interface Try {
  path: string;
  method?: string;
  body?: unknown;
}

/** One row of the table. */
interface Row {
  arrange?: (s: Situation) => Promise<unknown>;
  /** The ways to try it: each of them where the answer is to be no, the first where it is to be yes. */
  tries: (s: Situation) => Try[];
  /** What changes where the cell says yes; see {@link changes}. Everywhere else nothing may. */
  changes?: string[];
  /** What `acquired`, `renewed` or `released` is where the cell says yes, if not true. */
  outcome?: false;
  /** What else has to be so where the cell says yes. */
  // deno-lint-ignore no-explicit-any
  done?: (s: Situation, answer: any) => Promise<void> | void;
  /** For a select: the rows that there are, and which of them are the caller's own. */
  rows?: (s: Situation) => { all: number; own?: number };
}

const SERVER = "worker-1";
const TOKEN = 7;
const CLEARED = "~ state layout: last_activity_at lock_expires_at lock_holder_user_id lock_id " +
  "lock_ttl_seconds lock_type locked_at";

const typeOf = (holder: string) => holder === SERVER ? "server" : "client";
const isServer = (s: Situation) => s.caller === "secret key";

/** Gives a holder a lease. */
const lease = (s: Situation, holder: string, seconds = 120, databases = ["layout"]) =>
  plantLease({ ...s, holder, type: typeOf(holder), token: TOKEN, seconds, databases });
/** Gives a caller the next turn for layout, which is free. */
async function place(s: Situation, holder: string) {
  await sql`
    insert into public.video_database_state (video_id, tenant_id, database_name)
    values (${s.tenant.video}, ${s.tenant.id}, 'layout')`;
  await sql`
    insert into holdfast.place (
      video_id, database_name, lock_id, lock_holder_user_id, lock_type, queued_at, kept_until
    )
    values (${s.tenant.video}, 'layout', ${s.lockId}, ${holder}, ${
    typeOf(holder)
  }, clock_timestamp(), clock_timestamp() + interval '1 minute')`;
  await sql`update public.video_database_state set has_line = true where video_id = ${s.tenant.video}`;
}
/** The caller; for a caller who is nobody, the user whose token they would like to have. */
const self = (s: Situation) =>
  isServer(s) ? SERVER : s.caller === "other tenant" ? s.ben.id : s.me.id;
const ownLease = (s: Situation) => lease(s, self(s));
const ownSet = (s: Situation) => lease(s, self(s), 120, SET);
const bensLease = (s: Situation) => lease(s, s.ben.id);
const ownPlace = (s: Situation) => place(s, self(s));
const bensPlace = (s: Situation) => place(s, s.ben.id);

const SET = ["layout", "captions"];
const layout = (s: Situation) => ({ video_id: s.tenant.video, database_name: "layout" });
const several = (s: Situation) => ({ video_id: s.tenant.video, database_names: SET });
const fenced = (s: Situation) => ({ ...layout(s), fencing_token: TOKEN });

/** The history has who forced it. */
const forcedBy = async (s: Situation) =>
  assertEquals((await s.tenant.history())[0]?.ended_by, isServer(s) ? "service_role" : s.me.id);

const ROWS: Record<string, Row> = {};

// The functions, and the RPCs that they call: the same rows for both doors.
for (const door of ["functions", "rpc"]) {
  const to = (verb: string) =>
    door === "functions"
      ? { name: `lock-${verb}`, path: `/functions/v1/lock-${verb}` }
      : { name: `${verb}_lock`, path: `/rest/v1/rpc/${verb}_lock` };
  const acquire = to("acquire");
  const renew = to("renew");
  const release = to("release");
  const name = (s: Situation) => isServer(s) ? { lock_holder_user_id: SERVER } : {};

  ROWS[`${acquire.name}, a free lock`] = {
    tries: (s) => [{ ...acquire, body: { ...layout(s), ...name(s) } }],
    changes: ["+ state layout"],
    done: async (s, { lock }) => {
      const row = await s.tenant.state();
      assertEquals(row?.lock_id, lock.lock_id);
      assertEquals(
        [row?.lock_holder_user_id, row?.lock_type],
        isServer(s) ? [SERVER, "server"] : [s.me.id, "client"],
      );
    },
  };
  ROWS[`${acquire.name}, in another's name`] = {
    tries: (s) => [{ ...acquire, body: { ...layout(s), lock_holder_user_id: s.ben.id } }],
    changes: ["+ state layout"],
    done: async (s) =>
      assertEquals((await s.tenant.state())?.lock_type, "server", "it does not pass for the user"),
  };
  ROWS[`${acquire.name}, taking another's lease over`] = {
    arrange: bensLease,
    tries: (s) => [
      { ...acquire, body: { ...layout(s), ...name(s), take_over: true } },
      { ...acquire, body: { ...layout(s), ...name(s), take_over: true, lock_id: s.lockId } },
    ],
  };
  ROWS[`${acquire.name}, taking their own lease over`] = {
    arrange: ownLease,
    tries: (s) => [{ ...acquire, body: { ...layout(s), ...name(s), take_over: true } }],
    changes: [
      "+ history taken_over",
      "~ state layout: fencing_token last_activity_at lock_expires_at lock_id locked_at",
    ],
  };
  ROWS[`${acquire.name}, while another has the next turn`] = {
    arrange: bensPlace,
    tries: (s) => [
      { ...acquire, body: { ...layout(s), ...name(s) } },
      { ...acquire, body: { ...layout(s), ...name(s), lock_id: s.lockId } },
    ],
  };
  ROWS[`${acquire.name}, several free locks`] = {
    tries: (s) => [{ ...acquire, body: { ...several(s), ...name(s) } }],
    changes: ["+ state captions", "+ state layout"],
    done: (s, { locks }) =>
      assertEquals(locks.map((l: Record<string, unknown>) => [l.database_name, l.lock_type]), [
        ["layout", isServer(s) ? "server" : "client"],
        ["captions", isServer(s) ? "server" : "client"],
      ]),
  };
  ROWS[`${acquire.name}, a place in the line`] = {
    arrange: bensLease,
    tries: (s) => [{
      ...acquire,
      body: { ...layout(s), ...name(s), lock_id: crypto.randomUUID(), queue_seconds: 60 },
    }],
    outcome: false,
    changes: ["+ place layout", "~ state layout: has_line"],
    done: (_, { queue }) => assertEquals(queue, { position: 1, length: 1 }),
  };
  ROWS[`${renew.name}, their own leases on several`] = {
    arrange: ownSet,
    tries: (s) => [{ ...renew, body: { ...several(s), lock_id: s.lockId } }],
    changes: SET.map((of) => `~ state ${of}: last_activity_at lock_expires_at`),
  };
  ROWS[`${release.name}, their own leases on several`] = {
    arrange: ownSet,
    tries: (s) => [{ ...release, body: { ...several(s), lock_id: s.lockId } }],
    changes: [
      "+ history released",
      "+ history released captions",
      ...SET.map((of) =>
        CLEARED.replace("layout", of).replace("lock_expires_at", "lock_database_names $&")
      ),
    ],
  };
  ROWS[`${renew.name}, own lease`] = {
    arrange: ownLease,
    tries: (s) => [{ ...renew, body: { ...layout(s), lock_id: s.lockId } }],
    changes: ["~ state layout: last_activity_at lock_expires_at"],
  };
  ROWS[`${renew.name}, another's lease`] = {
    arrange: bensLease,
    tries: (s) => [{ ...renew, body: { ...layout(s), lock_id: s.lockId } }],
  };
  ROWS[`${release.name}, own lease`] = {
    arrange: ownLease,
    tries: (s) => [
      { ...release, body: { ...layout(s), lock_id: s.lockId } },
      { ...release, body: { ...layout(s), lock_holder_user_id: isServer(s) ? SERVER : s.me.id } },
    ],
    changes: ["+ history released", CLEARED],
  };
  ROWS[`${release.name}, another's lease`] = {
    arrange: bensLease,
    tries: (s) => [
      { ...release, body: { ...layout(s), lock_id: s.lockId } },
      { ...release, body: { ...layout(s), lock_holder_user_id: isServer(s) ? SERVER : s.me.id } },
    ],
  };
  ROWS[`${release.name}, in another's name`] = {
    arrange: bensLease,
    tries: (s) => [{ ...release, body: { ...layout(s), lock_holder_user_id: s.ben.id } }],
  };
  ROWS[`${release.name}, another's lease by force`] = {
    arrange: bensLease,
    tries: (s) => [{ ...release, body: { ...layout(s), force: true } }],
    changes: ["+ history force_released", CLEARED],
    done: forcedBy,
  };
  ROWS[`${release.name}, another's lease by force and lock_id`] = {
    arrange: bensLease,
    tries: (s) => [{ ...release, body: { ...layout(s), force: true, lock_id: s.lockId } }],
    changes: ["+ history force_released", CLEARED],
    done: forcedBy,
  };
  ROWS[`${release.name}, before its acquire`] = {
    tries: (s) => [{ ...release, body: { ...layout(s), lock_id: crypto.randomUUID() } }],
    outcome: false,
    changes: ["+ cancellation layout", "+ state layout"],
    done: (_, { reason }) => assertEquals(reason, "cancelled"),
  };
  ROWS[`${release.name}, own place in the line`] = {
    arrange: ownPlace,
    tries: (s) => [{ ...release, body: { ...layout(s), lock_id: s.lockId } }],
    outcome: false,
    changes: ["+ cancellation layout", "- place layout"],
    done: (_, { reason }) => assertEquals(reason, "cancelled"),
  };
  ROWS[`${release.name}, another's place in the line`] = {
    arrange: bensPlace,
    tries: (s) => [
      { ...release, body: { ...layout(s), lock_holder_user_id: isServer(s) ? SERVER : s.me.id } },
    ],
  };
}

for (
  const [name, changed] of [
    ["assert_lock_held", []],
    ["advance_server_version", ["~ state layout: server_version"]],
  ] as const
) {
  const tries = (s: Situation) => [{ path: `/rest/v1/rpc/${name}`, body: fenced(s) }];
  ROWS[`${name}, own lease`] = { arrange: ownLease, tries, changes: [...changed] };
  ROWS[`${name}, another's lease`] = { arrange: bensLease, tries, changes: [...changed] };
}

ROWS["release_expired_locks"] = {
  arrange: (s) => lease(s, s.ben.id, 5),
  tries: () => [
    { path: "/rest/v1/rpc/release_expired_locks", body: {} },
    { path: "/rest/v1/rpc/release_expired_locks", body: { batch_size: 1 } },
  ],
  changes: ["+ history expired", CLEARED],
};

ROWS["prune_lock_history"] = {
  arrange: (s) =>
    sql`insert into public.video_database_lock_history ${
      sql({ ...ended(s), ended_at: new Date(Date.now() - 91 * 86_400_000) })
    }`,
  tries: () => [
    { path: "/rest/v1/rpc/prune_lock_history", body: {} },
    { path: "/rest/v1/rpc/prune_lock_history", body: { older_than: "2 days", batch_size: 1 } },
  ],
  changes: ["- history released"],
};

// The tables.
const table = (name: string, filter = "") => `/rest/v1/${name}${filter && `?${filter}`}`;
const change = (method: string, path: string, ...bodies: unknown[]): Try[] =>
  bodies.map((body) => ({ method, path, body }));
const ofTenant = (s: Situation) => `tenant_id=eq.${s.tenant.id}`;
const ofVideo = (s: Situation) => `video_id=eq.${s.tenant.video}`;

ROWS["videos, select"] = {
  tries: (s) => [{ method: "GET", path: table("videos", `id=eq.${s.tenant.video}`) }],
  rows: () => ({ all: 1 }),
};
ROWS["videos, insert"] = {
  tries: (s) =>
    change("POST", table("videos"), { tenant_id: s.tenant.id, storage_key: "k", status: "x" }),
  changes: ["+ video"],
};
ROWS["videos, update"] = {
  tries: (s) => change("PATCH", table("videos", ofTenant(s)), { status: "x" }),
  changes: ["~ video: status"],
};
ROWS["videos, update of the id"] = {
  arrange: bensLease,
  tries: (s) => change("PATCH", table("videos", ofTenant(s)), { id: crypto.randomUUID() }),
  changes: [
    "+ history force_released",
    "+ video",
    "- video",
    "~ state layout: fencing_token has_line last_activity_at lock_expires_at lock_holder_user_id " +
    "lock_id lock_ttl_seconds lock_type locked_at video_id",
  ],
};
ROWS["videos, delete"] = {
  tries: (s) => change("DELETE", table("videos", ofTenant(s)), undefined),
  changes: ["- video"],
};

ROWS["tenant_members, select"] = {
  tries: (s) => [{ method: "GET", path: table("tenant_members", ofTenant(s)) }],
  rows: (s) => ({
    all: s.caller === "admin" ? 3 : 2,
    own: s.caller === "member" || s.caller === "admin" ? 1 : 0,
  }),
};
ROWS["tenant_members, insert"] = {
  tries: (s) => [
    ...change("POST", table("tenant_members"), {
      tenant_id: s.tenant.id,
      user_id: s.stranger.id,
      role: "admin",
    }, { tenant_id: s.elsewhere, user_id: s.me.id, role: "admin" }),
    ...change("POST", table("tenant_members", "on_conflict=tenant_id,user_id"), {
      tenant_id: s.tenant.id,
      user_id: s.me.id,
      role: "admin",
    }),
  ],
  changes: ["+ member stranger"],
};
ROWS["tenant_members, update"] = {
  tries: (s) =>
    change(
      "PATCH",
      table("tenant_members", `${ofTenant(s)}&user_id=eq.${s.ben.id}`),
      { role: "admin" },
      { user_id: s.me.id },
      { tenant_id: s.elsewhere },
    ),
  changes: ["~ member ben: role"],
};
ROWS["tenant_members, delete"] = {
  tries: (s) =>
    change("DELETE", table("tenant_members", `${ofTenant(s)}&user_id=eq.${s.ben.id}`), undefined),
  changes: ["- member ben"],
};

/** The columns of the state row: what a server keeps, what the lock functions keep, and what never changes. */
const COLUMNS = {
  versions: { server_version: 5, wasabi_version: 5, wasabi_synced_at: "2026-01-01T00:00:00Z" },
  lock: {
    lock_holder_user_id: "thief",
    lock_type: "server",
    locked_at: "2026-01-01T00:00:00Z",
    last_activity_at: "2026-01-01T00:00:00Z",
    lock_id: crypto.randomUUID(),
    lock_expires_at: "2036-01-01T00:00:00Z",
    lock_ttl_seconds: 60,
    lock_database_names: ["captions", "layout"],
    fencing_token: 1,
    has_line: true,
  },
  key: {
    video_id: crypto.randomUUID(),
    database_name: "captions",
    tenant_id: crypto.randomUUID(),
  },
};
const each = (columns: object) => Object.entries(columns).map(([name, v]) => ({ [name]: v }));
const state = (s: Situation) => table("video_database_state", ofVideo(s));
const newState = (s: Situation) => ({ ...layout(s), tenant_id: s.tenant.id });

ROWS["video_database_state, select"] = {
  arrange: bensLease,
  tries: (s) => [
    { method: "GET", path: state(s) },
    { method: "GET", path: table("video_database_state", ofTenant(s)) },
  ],
  rows: () => ({ all: 1 }),
};
ROWS["video_database_state, insert of versions"] = {
  tries: (s) =>
    change("POST", table("video_database_state"), { ...newState(s), ...COLUMNS.versions }),
  changes: ["+ state layout"],
};
ROWS["video_database_state, insert of a lock"] = {
  tries: (s) =>
    change("POST", table("video_database_state"), { ...newState(s), ...COLUMNS.lock }, {
      ...newState(s),
      fencing_token: 99,
    }),
};
ROWS["video_database_state, update of versions"] = {
  arrange: bensLease,
  tries: (s) => change("PATCH", state(s), COLUMNS.versions, ...each(COLUMNS.versions)),
  changes: ["~ state layout: server_version wasabi_synced_at wasabi_version"],
};
ROWS["video_database_state, update of a lock column"] = {
  arrange: bensLease,
  tries: (s) => change("PATCH", state(s), ...each(COLUMNS.lock)),
};
ROWS["video_database_state, update of a key column"] = {
  arrange: bensLease,
  tries: (s) => change("PATCH", state(s), ...each(COLUMNS.key)),
};
ROWS["video_database_state, delete"] = {
  arrange: bensLease,
  tries: (s) => change("DELETE", state(s), undefined),
  changes: ["+ history force_released", "- state layout"],
};

const ended = (s: Situation) => ({
  ...layout(s),
  lock_id: s.lockId,
  tenant_id: s.tenant.id,
  lock_holder_user_id: s.ben.id,
  lock_type: "client",
  fencing_token: TOKEN,
  locked_at: "2026-01-01T00:00:00Z",
  ended_at: "2026-01-01T00:01:00Z",
  end_reason: "released",
});
const inHistory = (s: Situation) =>
  sql`insert into public.video_database_lock_history ${sql(ended(s))}`;
const history = (s: Situation) => table("video_database_lock_history", ofTenant(s));

ROWS["video_database_lock_history, select"] = {
  arrange: inHistory,
  tries: (s) => [{ method: "GET", path: history(s) }],
  rows: () => ({ all: 1 }),
};
ROWS["video_database_lock_history, insert"] = {
  tries: (s) => change("POST", table("video_database_lock_history"), ended(s)),
};
ROWS["video_database_lock_history, update"] = {
  arrange: inHistory,
  tries: (s) =>
    change("PATCH", history(s), { end_reason: "expired" }, { lock_holder_user_id: s.me.id }),
};
ROWS["video_database_lock_history, delete"] = {
  arrange: inHistory,
  tries: (s) => change("DELETE", history(s), undefined),
};

ROWS["held_locks, select"] = {
  arrange: bensLease,
  tries: (s) => [{ method: "GET", path: table("held_locks", ofTenant(s)) }],
  rows: () => ({ all: 1 }),
};
ROWS["held_locks, update or delete"] = {
  arrange: bensLease,
  tries: (s) => [
    ...change("PATCH", table("held_locks", ofVideo(s)), { lock_holder_user_id: s.me.id }),
    ...change("DELETE", table("held_locks", ofVideo(s)), undefined),
  ],
};
ROWS["waiting_locks, select"] = {
  arrange: bensPlace,
  tries: (s) => [{ method: "GET", path: table("waiting_locks", ofTenant(s)) }],
  rows: () => ({ all: 1 }),
};

/** Every row of a tenant, by a name that does not change from run to run. */
async function snapshot(s: Situation): Promise<Map<string, Record<string, unknown>>> {
  const { id, video } = s.tenant;
  const rows = await sql<{ name: string; row: Record<string, unknown> }[]>`
    select 'video' || case when id = ${video} then '' else '+' end as name, to_jsonb(v) as row
    from public.videos v where tenant_id = ${id}
    union all
    select 'member ' || case user_id when ${s.ben.id} then 'ben' when ${s.me.id} then 'me' else 'stranger' end,
      to_jsonb(m)
    from public.tenant_members m where tenant_id = ${id} or tenant_id = ${s.elsewhere}
    union all
    select 'state ' || database_name, to_jsonb(s)
    from public.video_database_state s where tenant_id = ${id} or video_id = ${video}
    union all
    select 'history ' || end_reason || case database_name when 'layout' then '' else ' ' || database_name end,
      to_jsonb(h)
    from public.video_database_lock_history h where tenant_id = ${id} or video_id = ${video}
    union all
    select 'place ' || database_name, to_jsonb(p) from holdfast.place p where video_id = ${video}
    union all
    select 'cancellation ' || database_name, to_jsonb(c) from holdfast.cancellation c where video_id = ${video}`;
  return new Map(rows.map(({ name, row }) => [name, row]));
}

/** What differs between two snapshots: `+` a new row, `-` a row that is gone, `~` a row and its changed columns. */
function changes(
  before: Map<string, Record<string, unknown>>,
  after: Map<string, Record<string, unknown>>,
): string[] {
  const found: string[] = [];
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const [old, now] = [before.get(name), after.get(name)];
    if (!old) found.push(`+ ${name.replace("+", "")}`);
    else if (!now) found.push(`- ${name}`);
    else {
      const columns = Object.keys(now).filter((c) =>
        JSON.stringify(old[c]) !== JSON.stringify(now[c])
      );
      if (columns.length > 0) found.push(`~ ${name}: ${columns.toSorted().join(" ")}`);
    }
  }
  return found.toSorted();
}

async function send({ path, method = "POST", body }: Try, headers: Record<string, string>) {
  const response = await fetch(url + path, {
    method,
    headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : {} };
}

/** The codes of an error, as a function and as the Data API says it. */
const CODES: Record<string, [name: keyof typeof ERRORS | null, ...sqlstates: string[]]> = {
  "403": ["FORBIDDEN", "42501", "PT403"],
  "404": ["VIDEO_NOT_FOUND", "PT404"],
  "412": [null, "PT412"],
};

/** Acts one cell out, and compares what comes of it with what the cell says. */
async function actOut(row: Row, caller: Caller, cell: string): Promise<void> {
  await using tenant = await newTenant();
  const ben = await tenant.join("ben");
  const anna = await tenant.join("anna");
  const me = caller === "admin"
    ? await tenant.join("adam", "admin")
    : caller === "other tenant"
    ? await user("mallory")
    : caller === "removed"
    ? await tenant.join("rita")
    : anna;
  const stranger = await user("stranger");
  const [lockId, elsewhere] = [crypto.randomUUID(), crypto.randomUUID()];
  const s: Situation = { tenant, caller, me, ben, stranger, lockId, elsewhere };
  await row.arrange?.(s);
  if (caller === "removed") await tenant.leave(me);

  const yes = cell === "yes";
  const before = await snapshot(s);
  const ways = (await credentials(caller, me)).flatMap((headers) =>
    row.tries(s).map((request) => ({ headers, request }))
  );
  for (const { headers, request } of yes ? ways.slice(0, 1) : ways) {
    const { status, body } = await send(request, headers);
    const note = `${request.method ?? "POST"} ${request.path} ${JSON.stringify(request.body)}: ` +
      `${status} ${JSON.stringify(body)}`;
    if (yes) {
      assert(status >= 200 && status < 300, note);
      for (const field of ["acquired", "renewed", "released"]) {
        assertEquals(body?.[field] ?? row.outcome ?? true, row.outcome ?? true, note);
      }
      await row.done?.(s, body);
    } else if (cell === "no") {
      assertEquals([status, body.acquired ?? body.renewed ?? body.released], [200, false], note);
    } else if (["rows", "own", "none"].includes(cell)) {
      const { all, own } = row.rows!(s);
      assertEquals([status, body.length], [200, cell === "rows" ? all : cell === "own" ? own : 0]);
      if (cell === "own") assertEquals(body[0].user_id, me.id);
    } else {
      assertEquals(String(status), cell, note);
      if (request.path.startsWith("/functions/")) {
        assertEquals(body.code, cell === "401" ? "NOT_AUTHENTICATED" : CODES[cell]?.[0], note);
      } else if (cell !== "401") {
        assert(CODES[cell]?.includes(body.code), note);
      }
    }
  }
  assertEquals(
    changes(before, await snapshot(s)),
    yes ? (row.changes ?? ["a row that this test does not foresee"]).toSorted() : [],
    "the rows that changed",
  );
}

/** A fingerprint of every row of every table of ours. */
async function everything(): Promise<string | undefined> {
  const [all] = await sql<{ print: string }[]>`
    select md5(string_agg(row, '' order by row)) as print from (
      select v::text as row from public.videos v
      union all select m::text from public.tenant_members m
      union all select s::text from public.video_database_state s
      union all select h::text from public.video_database_lock_history h
      union all select p::text from holdfast.place p
      union all select c::text from holdfast.cancellation c
      union all select n::text from holdfast.database_names n
    ) as rows`;
  return all?.print;
}

const matrix = readMatrix();
const signable = await canSign();

for (const caller of CALLERS) {
  const skipped = caller === "expired token" && !signable;
  Deno.test({
    name: `P8 ${caller}: every cell of docs/reference/authority.md is so` +
      (skipped ? ", NOT SHOWN: it needs SUPABASE_JWT_SECRET, and a stack that believes it" : ""),
    ignore: skipped,
    async fn() {
      const before = await everything();
      const wrong: string[] = [];
      const left = [...matrix];
      const work = async () => {
        for (let next = left.shift(); next; next = left.shift()) {
          const [name, cells] = next;
          try {
            if (!ROWS[name]) throw new Error("this test does not know the row");
            await actOut(ROWS[name], caller, cells[caller]);
          } catch (error) {
            wrong.push(`${name} | ${cells[caller]}: ${(error as Error).message}`);
          }
        }
      };
      await Promise.all([work(), work(), work(), work()]);
      assertEquals(wrong, []);
      assertEquals(await everything(), before, "nothing else changed either");
    },
  });
}

Deno.test("the table of docs/reference/authority.md has a row for every function, RPC, table and column", async () => {
  assertEquals([...matrix.keys()], Object.keys(ROWS));
  const subjects = new Set([...matrix.keys()].map((name) => name.split(",")[0]!));
  const folders = Array.from(Deno.readDirSync(new URL("../../functions", import.meta.url)))
    .map(({ name }) => name).filter((name) => !name.startsWith("_"));
  const inDatabase = await sql<{ name: string }[]>`
    select relname as name from pg_catalog.pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') and relname in ${
    sql(OWN_IN_PUBLIC)
  }
    union all
    select proname from pg_catalog.pg_proc
    where pronamespace = 'public'::regnamespace and prorettype <> 'trigger'::regtype and proname in ${
    sql(OWN_IN_PUBLIC)
  }`;
  const there = [...folders, ...inDatabase.map(({ name }) => name)];
  assertEquals([...subjects].toSorted(), there.toSorted());

  const columns = await sql<{ name: string }[]>`
    select attname as name from pg_catalog.pg_attribute
    where attrelid = 'public.video_database_state'::regclass and attnum > 0 and not attisdropped`;
  assertEquals(
    Object.values(COLUMNS).flatMap((of) => Object.keys(of)).toSorted(),
    columns.map(({ name }) => name).toSorted(),
  );
});

Deno.test("P8 the token counts, not the key beside it: a user's token with the secret key is that user", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const beside = (token: string) => ({ apikey: secretKey, authorization: `Bearer ${token}` });
  const forced = { video_id: tenant.video, database_name: "layout", force: true };
  const membership = { tenant_id: tenant.id, user_id: anna.id, role: "admin" };
  const [forged] = await credentials("forged token", anna);
  for (
    const [token, status] of [
      [anna.token, 403],
      [forged!.authorization!.replace("Bearer ", ""), 401],
    ] as const
  ) {
    for (
      const request of [
        { path: "/functions/v1/lock-release", body: forced },
        { path: "/rest/v1/rpc/release_lock", body: forced },
        { path: "/rest/v1/tenant_members", body: membership },
        { path: `/rest/v1/videos?id=eq.${tenant.video}`, method: "DELETE" },
      ]
    ) assertEquals((await send(request, beside(token))).status, status, request.path);
  }
  const answer = await send(
    { path: "/functions/v1/lock-acquire", body: { ...forced, force: undefined } },
    beside(anna.token),
  );
  assertEquals([answer.body.lock.lock_holder_user_id, answer.body.lock.lock_type], [
    anna.id,
    "client",
  ]);
});

Deno.test("P8 the schema holdfast is out of every caller's reach through the Data API", async () => {
  const anna = await user("anna");
  for (const caller of ["publishable key", "member", "secret key"] as const) {
    const [headers] = await credentials(caller, anna);
    for (
      const [request, profile] of [
        [{ path: "/rest/v1/place", method: "GET" }, "accept-profile"],
        [{ path: "/rest/v1/membership", method: "GET" }, "accept-profile"],
        [{ path: "/rest/v1/cancellation", body: {} }, "content-profile"],
        [
          { path: "/rest/v1/rpc/release_expired_locks", body: { p_batch_size: 1 } },
          "content-profile",
        ],
        [{ path: "/rest/v1/rpc/may_see", body: { p_video_id: anna.id } }, "content-profile"],
        [{ path: "/rest/v1/rpc/tenants_of_caller", body: {} }, "content-profile"],
        [
          { path: "/rest/v1/rpc/waiting", body: { p_video_id: anna.id, p_database_name: "a" } },
          "content-profile",
        ],
        [
          { path: "/rest/v1/rpc/line_length", body: { p_video_id: anna.id, p_database_name: "a" } },
          "content-profile",
        ],
      ] as const
    ) {
      const plain = await send(request, headers!);
      assertEquals(plain.status, 404, `${caller} ${request.path}`);
      const named = await send(request, { ...headers, [profile]: "holdfast" });
      assertEquals([named.status, named.body.code], [406, "PGRST106"], `${caller} ${request.path}`);
    }
  }
});
