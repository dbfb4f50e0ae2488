// acquire_lock, renew_lock and release_lock do the usual case in one piece. Nothing but speed depends on that, so nothing else
// would notice if a row got stuck in a shape that they take for unusual.
import { assertEquals, assertRejects } from "@std/assert";
import { HOLDER_CHARACTERS, QUEUE_SECONDS, TTL_SECONDS } from "../../functions/_shared/rules.ts";
import { type Change, changedFunctions, WITHOUT_USUAL_CASE } from "../support/changed_functions.ts";
import { type Door, httpDoor, sqlDoor } from "../support/doors.ts";
import { openSession } from "../support/race.ts";
import { acquire, release, renew, sql } from "../support/stack.ts";
import { newTenant, type Tenant } from "../support/tenant.ts";

const NOT_USUAL = "this was not the usual case";

/** Functions that do the usual case, and fail in all others. */
const ONLY_USUAL: readonly Change[] = ["acquire", "renew", "release"].map((name) => [
  `${name}_in_turn`,
  "\nbegin\n",
  `\nbegin\n  raise exception '${NOT_USUAL}';\n`,
]);

const WAYS = [
  "created",
  "renewed",
  "asserted",
  "taken over",
  "of a user",
  "in a set",
  "waited for",
  "cancelled long ago",
] as const;

/** Has a tenant's lock go through something that may leave a trace at its row. */
async function goThrough(
  way: typeof WAYS[number],
  tenant: Tenant,
  stack: AsyncDisposableStack,
): Promise<void> {
  const key = { video_id: tenant.video, database_name: "layout" };
  const mine = () => ({ ...key, lock_id: crypto.randomUUID(), lock_holder_user_id: "worker-1" });
  const lock = mine();
  const set = {
    ...mine(),
    database_name: null,
    database_names: ["layout", "captions"],
  };
  const { lock: granted } = await acquire(tenant.server, lock);
  if (way === "renewed") await renew(tenant.server, { ...key, lock_id: lock.lock_id });
  if (way === "asserted") {
    await using session = openSession({ role: "service_role" });
    await session.run`
      select public.assert_lock_held(${tenant.video}, 'layout', ${granted!.fencing_token})`;
  }
  if (way === "taken over") {
    await sqlDoor(stack)({}, "acquire_lock", { ...mine(), take_over: true });
  }
  const waiting = { ...mine(), lock_holder_user_id: "worker-2" };
  if (way === "waited for") await acquire(tenant.server, { ...waiting, queue_seconds: 60 });
  await release(tenant.server, { ...key, force: true });
  if (way === "waited for") {
    assertEquals((await acquire(tenant.server, waiting)).acquired, true);
    await release(tenant.server, { ...key, lock_id: waiting.lock_id });
  }
  if (way === "cancelled long ago") {
    await release(tenant.server, { ...key, lock_id: crypto.randomUUID() });
    await sql`
      update holdfast.cancellation set cancelled_at = cancelled_at - interval '61 minutes'
      where video_id = ${tenant.video}`;
  }
  if (way === "of a user") {
    const anna = await tenant.join("anna");
    await acquire(anna.client, { ...key, ttl_seconds: 1 });
    await tenant.backdate(2);
  }
  if (way === "in a set") {
    const right = sqlDoor(stack);
    await right({}, "acquire_lock", set);
    await right({}, "release_lock", { ...set, lock_holder_user_id: null });
  }
}

Deno.test("a lock that has been through everything is acquired, renewed and released by the usual case again", async () => {
  await using tenant = await newTenant();
  await using stack = new AsyncDisposableStack();
  const { name } = stack.use(await changedFunctions(ONLY_USUAL));
  const door = sqlDoor(stack, name);
  const key = { video_id: tenant.video, database_name: "layout" };
  const mine = () => ({ ...key, lock_id: crypto.randomUUID(), lock_holder_user_id: "worker-1" });

  for (const way of WAYS) {
    await goThrough(way, tenant, stack);
    // any of them may cost the slower way once
    const once = mine();
    await acquire(tenant.server, once);
    await release(tenant.server, { ...key, lock_id: once.lock_id });

    const usual = mine();
    const named = { ...key, lock_id: usual.lock_id };
    const answers = [
      (await door({}, "acquire_lock", usual)).acquired,
      (await unhurried(() => door({}, "renew_lock", named))).renewed,
      (await door({}, "release_lock", named)).released,
    ];
    assertEquals(answers, [true, true, true], way);
  }
});

/** A renewal whose write takes over 5 ms, be it for a busy machine, is judged anew in turn: so it has more than one try. */
async function unhurried<T>(call: () => Promise<T>, tries = 5): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (tries > 1 && (error as Error).message.includes(NOT_USUAL)) {
      return await unhurried(call, tries - 1);
    }
    throw error;
  }
}

/** The rules that the usual case asks, too: by function and field, the values at their edges, or whole fields. */
const EDGES: [
  name: "acquire_lock" | "renew_lock",
  field: string,
  kept: unknown[],
  broken: unknown[],
][] = [
  ...(["acquire_lock", "renew_lock"] as const).map((
    name,
  ): typeof EDGES[number] => [
    name,
    "ttl_seconds",
    [null, TTL_SECONDS.min, TTL_SECONDS.max],
    [TTL_SECONDS.min - 1, TTL_SECONDS.max + 1],
  ]),
  [
    "acquire_lock",
    "lock_holder_user_id",
    ["x".repeat(HOLDER_CHARACTERS.min), "😀".repeat(HOLDER_CHARACTERS.max)],
    ["", "x".repeat(HOLDER_CHARACTERS.max + 1)],
  ],
  [
    "acquire_lock",
    "queue_seconds",
    [null, QUEUE_SECONDS.min, QUEUE_SECONDS.max],
    [QUEUE_SECONDS.min - 1, QUEUE_SECONDS.max + 1, { queue_seconds: 1, lock_id: null }],
  ],
];

for (const [name, field, kept, broken] of EDGES) {
  Deno.test(`${name}: ${field} has the same edges in the usual case as without it, through every door`, async () => {
    await using tenant = await newTenant();
    await using stack = new AsyncDisposableStack();
    const usual = sqlDoor(stack, stack.use(await changedFunctions(ONLY_USUAL)).name);
    const inTurn = sqlDoor(stack, stack.use(await changedFunctions(WITHOUT_USUAL_CASE)).name);
    const doors: Record<string, Door> = {
      usual,
      inTurn,
      sql: sqlDoor(stack),
      rpc: httpDoor("rpc"),
      functions: httpDoor("functions"),
    };
    const key = { video_id: tenant.video, database_name: "layout" };
    /** What a door answers where all but the value is usual: the row is there, and free or held by whom it should. */
    const answer = async (door: Door, value: unknown) => {
      const own = { ...key, lock_id: crypto.randomUUID() };
      const asking = { ...own, lock_holder_user_id: "worker-1" };
      await release(tenant.server, { ...key, force: true });
      if (name === "renew_lock") await acquire(tenant.server, { ...asking, ttl_seconds: 1 });
      const usual = name === "renew_lock" ? own : asking;
      const changed = typeof value === "object" && value ? value : { [field]: value };
      return await door({}, name, { ...usual, ...changed });
    };
    await acquire(tenant.server, { ...key, lock_holder_user_id: "worker-1" });
    for (const [which, door] of Object.entries(doors)) {
      for (const value of kept) {
        const { lock, code } = await unhurried(() => answer(door, value));
        const of = (lock ?? {}) as Record<string, unknown>;
        const note = `${which} ${field} ${value}`;
        assertEquals(code, undefined, note);
        assertEquals(
          of.lock_holder_user_id,
          field === "lock_holder_user_id" ? value : "worker-1",
          note,
        );
        assertEquals(of.ttl_seconds, field === "ttl_seconds" && value || TTL_SECONDS.default, note);
      }
      for (const value of broken) {
        if (door === usual) await assertRejects(() => answer(door, value), Error, NOT_USUAL);
        else {assertEquals(
            await answer(door, value),
            { code: "INVALID_REQUEST" },
            `${which} ${value}`,
          );}
      }
    }
  });
}
