import { assertEquals } from "@std/assert";
import { openSession, type Session } from "../support/race.ts";
import { acquire, release, renew, rpc, sql } from "../support/stack.ts";
import { newTenant, type Tenant } from "../support/tenant.ts";
import { ANSWERS } from "./spin.ts";

/** The real thing, as far as the model has it: one lock of a video of its own. */
interface Real {
  tenant: Tenant;
  ids: string[];
  tokens: number[];
  writers: Map<number, Session>;
}

const LAYOUT = { database_name: "layout" };

/**
 * Does over HTTP and by SQL what a way through the model did, and compares every answer.
 *
 * @param events The way: what, which acquisition, how, and the number of the answer.
 */
export async function replay(events: readonly string[]): Promise<void> {
  await using tenant = await newTenant();
  await using stack = new AsyncDisposableStack();
  const real: Real = {
    tenant,
    ids: Array.from({ length: 8 }, () => crypto.randomUUID()),
    tokens: [],
    writers: new Map(),
  };
  stack.defer(async () => {
    for (const session of real.writers.values()) await session[Symbol.asyncDispose]();
  });
  for (const [i, event] of events.entries()) {
    const [what, id, how, answer] = event.split(" ") as [string, string, string, string];
    const real_answer = await STEPS[what]!(real, Number(id), how);
    const expected = ANSWERS[Number(answer)]!;
    if (expected === "nothing") continue;
    assertEquals(real_answer, expected, `event ${i} of ${JSON.stringify(events.slice(0, i + 1))}`);
  }
}

const keyOf = ({ tenant, ids }: Real, id: number) => ({
  video_id: tenant.video,
  ...LAYOUT,
  lock_id: ids[id]!,
});

/** What each event of the model is here, and the model's word for the answer. */
const STEPS: Record<string, (real: Real, id: number, how: string) => Promise<string>> = {
  async acquire(real, id, how) {
    const answer = await acquire(real.tenant.server, {
      ...keyOf(real, id),
      lock_holder_user_id: `worker-${id % 2}`,
      ttl_seconds: 3600,
      take_over: how === "over",
      queue_seconds: how === "place" ? 60 : 0,
    });
    if (!answer.acquired) return answer.reason!;
    const { fencing_token } = answer.lock!;
    const known = real.tokens[id];
    if (known !== undefined) assertEquals(fencing_token, known, "one lock_id, one token");
    else {
      assertEquals(
        real.tokens.every((token) => token === undefined || token < fencing_token),
        true,
        "tokens grow",
      );
    }
    real.tokens[id] = fencing_token;
    return "granted";
  },
  async release(real, id) {
    const answer = await release(real.tenant.server, keyOf(real, id));
    return answer.released ? "released" : answer.reason!;
  },
  async renew(real, id) {
    const answer = await renew(real.tenant.server, { ...keyOf(real, id), ttl_seconds: 3600 });
    return answer.renewed ? "renewed" : answer.reason!;
  },
  async begin(real, id) {
    const session = openSession({ role: "service_role" });
    await session.run`begin`;
    const refused = await session.run`
      select public.assert_lock_held(${real.tenant.video}, 'layout', ${real.tokens[id] ?? 1})`
      .then(() => null, ({ code }) => code);
    if (refused === null) real.writers.set(id, session);
    else await session[Symbol.asyncDispose]();
    return refused === null ? "written" : refused === "PT412" ? "refused" : refused;
  },
  async commit(real, id) {
    const session = real.writers.get(id)!;
    real.writers.delete(id);
    await session.run`commit`;
    await session[Symbol.asyncDispose]();
    return "written";
  },
  async rollback(real, id) {
    const session = real.writers.get(id)!;
    real.writers.delete(id);
    await session.run`rollback`;
    await session[Symbol.asyncDispose]();
    return "nothing";
  },
  async expire({ tenant }) {
    await tenant.backdate(7200);
    return "nothing";
  },
  async force(real) {
    const { video_id } = keyOf(real, 0);
    await rpc(real.tenant.server, "release_lock", { video_id, ...LAYOUT, force: true });
    return "nothing";
  },
  async lapse({ tenant, ids }, id) {
    await sql`
      update holdfast.place set kept_until = clock_timestamp()
      where video_id = ${tenant.video} and lock_id = ${ids[id]!}`;
    return "nothing";
  },
  async delete({ tenant, writers }) {
    assertEquals(writers.size, 0, "it would wait for a write that ends later, that is for ever");
    await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
    return "nothing";
  },
  /** A crash ends what is open, and nothing else. */
  async crash({ writers }) {
    for (const session of writers.values()) await session[Symbol.asyncDispose]();
    writers.clear();
    return "nothing";
  },
};
