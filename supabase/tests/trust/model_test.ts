// Random lives of locks against a model of forty lines: every answer, row and history entry has to agree.
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { openSession, type Session } from "../support/race.ts";
import { acquire, type Answer, release, renew, sql } from "../support/stack.ts";
import { runs } from "../support/soak.ts";
import { newTenant, type Tenant, type User } from "../support/tenant.ts";

/** One lease as the model knows it. */
interface Lease {
  id: string;
  holder: string;
  token: number;
  /** Time is what the commands say; a lease ends when none of it is left. */
  secondsLeft: number;
  end: string | null;
}

/** What a lock should do, without any of what makes that hard. */
class Model {
  leases: Lease[] = [];
  token = 0;

  get current(): Lease | undefined {
    return this.leases.find((lease) => lease.end === null);
  }
  end(lease: Lease | undefined, reason: string) {
    if (lease) lease.end = reason;
  }
  pass(seconds: number) {
    const { current } = this;
    if (current && (current.secondsLeft -= seconds) <= 0) this.end(current, "expired");
  }
  acquire(holder: string, id: string, seconds: number, takeOver: boolean): string {
    const named = this.leases.find((lease) => lease.id === id);
    if (named?.end) return `ended ${named.end}`;
    if (named && named.holder === holder) return `granted ${named.token}`;
    const { current } = this;
    const isYou = current?.holder === holder;
    if (current && !(takeOver && isYou)) return `held by ${current.holder} is_you ${isYou}`;
    this.end(current, "taken_over");
    this.leases.push({ id, holder, token: ++this.token, secondsLeft: seconds, end: null });
    return `granted ${this.token}`;
  }
  renew(holder: string, id: string, seconds: number): string {
    const lease = this.leases.find((lease) => lease.id === id && lease.holder === holder);
    if (!lease || lease.end) return `lost ${lease?.end ?? "not_held"}`;
    lease.secondsLeft = Math.max(lease.secondsLeft, seconds);
    return `renewed ${lease.token}`;
  }
  release(holder: string, id: string): string {
    const lease = this.leases.find((lease) => lease.id === id && lease.holder === holder);
    if (lease && lease.end === null) this.end(lease, "released");
    if (lease?.end === "released") return `released ${lease.token}`;
    return `not ${lease?.end ?? (this.current ? "held_by_another" : "not_held")}`;
  }
  /** @param left What the row still shows: a lease that ran out, if nobody has come by since. */
  force(left: string | undefined): string {
    const { current } = this;
    this.end(current, "force_released");
    return current ? `released ${current.token}` : left ? "not expired" : "not not_held";
  }
}

const HOLDERS = ["anna", "ben", "worker-1", "worker-2"] as const;
type HolderName = typeof HOLDERS[number];
const DATABASES = ["layout", "captions"] as const;

const command = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("acquire" as const),
      takeOver: fc.boolean(),
      seconds: fc.constantFrom(60, 600),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("renew" as const),
      seconds: fc.constantFrom(30, 300, 900),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("release" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("force" as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("pass" as const),
      seconds: fc.constantFrom(20, 61, 601),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("clean up" as const) }) },
);
const step = fc.record({
  command,
  holder: fc.constantFrom(...HOLDERS),
  database: fc.constantFrom(...DATABASES),
  // few names, so that they are used again: by others, and after their end
  id: fc.integer({ min: 0, max: 5 }),
});
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** The ways to a lock: over HTTP, or by SQL as the role that the Data API would use. */
type Caller = (
  holder: HolderName,
  name: "acquire" | "renew" | "release",
  body: Record<string, unknown>,
) => Promise<Answer>;

/** Puts an answer in the model's words. */
function inWords(answer: Answer, nameOf: (holder: string) => string): string {
  if (answer.acquired) return `granted ${answer.lock!.fencing_token}`;
  if (answer.renewed) return `renewed ${answer.lock!.fencing_token}`;
  if (answer.released) return `released ${answer.lock!.fencing_token}`;
  if (answer.reason === "ended") return `ended ${answer.end_reason}`;
  if (answer.reason === "held") {
    return `held by ${nameOf(answer.holder!.lock_holder_user_id)} is_you ${answer.holder!.is_you}`;
  }
  return `${answer.renewed === false ? "lost" : "not"} ${answer.reason}`;
}

async function play(steps: Step[], tenant: Tenant, users: Map<string, User>, call: Caller) {
  const models = new Map(DATABASES.map((database) => [database, new Model()]));
  const ids = Array.from({ length: 6 }, () => crypto.randomUUID());
  const nameOf = (holder: string) =>
    [...users].find(([, user]) => user.id === holder)?.[0] ?? holder;
  for (const [i, { command, holder, database, id }] of steps.entries()) {
    const note = `step ${i}: ${holder} ${JSON.stringify(command)} ${database} #${id}`;
    const model = models.get(database)!;
    const lock = { video_id: tenant.video, database_name: database };
    const named = { ...lock, lock_id: ids[id]! };
    const isUser = users.has(holder);
    switch (command.do) {
      case "acquire": {
        // a server has no take_over, and it says whose name it acts in
        const takeOver = isUser && command.takeOver;
        const answer = await call(holder, "acquire", {
          ...named,
          ttl_seconds: command.seconds,
          ...(isUser ? { take_over: takeOver } : { lock_holder_user_id: holder }),
        });
        assertEquals(
          inWords(answer, nameOf),
          model.acquire(holder, named.lock_id, command.seconds, takeOver),
          note,
        );
        break;
      }
      case "renew":
      case "release": {
        // a lock_id is a server's, whichever name it acquired in
        const acting = isUser
          ? holder
          : model.leases.find((lease) => lease.id === named.lock_id)?.holder ?? holder;
        const known = !isUser && users.has(acting) ? holder : acting;
        const expected = command.do === "renew"
          ? model.renew(known, named.lock_id, command.seconds)
          : model.release(known, named.lock_id);
        const answer = await call(holder, command.do, {
          ...named,
          ...(command.do === "renew" ? { ttl_seconds: command.seconds } : {}),
        });
        assertEquals(inWords(answer, nameOf), expected, note);
        break;
      }
      case "force": {
        const left = (await tenant.state(tenant.video, database))?.lock_id ?? undefined;
        assertEquals(
          inWords(await call("worker-1", "release", { ...lock, force: true }), nameOf),
          model.force(left),
          note,
        );
        break;
      }
      case "pass":
        // an expired lease that still stands in the row grows older too, so that no time of it is left for good
        await sql`
          update public.video_database_state
          set locked_at = locked_at - ${command.seconds} * interval '1 second',
            last_activity_at = last_activity_at - ${command.seconds} * interval '1 second',
            lock_expires_at = lock_expires_at - ${command.seconds} * interval '1 second'
          where video_id = ${tenant.video} and database_name = ${database} and lock_id is not null`;
        model.pass(command.seconds);
        break;
      case "clean up":
        await sql`select public.release_expired_locks()`;
    }
    await assertAgrees(tenant, database, model, users, note);
  }
}

async function assertAgrees(
  tenant: Tenant,
  database: string,
  model: Model,
  users: Map<string, User>,
  note: string,
) {
  const [row] = await sql<
    { lock_id: string | null; live: boolean; holder: string; type: string; token: string }[]
  >`
    select lock_id, coalesce(lock_expires_at > clock_timestamp(), false) as live, lock_holder_user_id as holder,
      lock_type as type, fencing_token as token
    from public.video_database_state where video_id = ${tenant.video} and database_name = ${database}`;
  const { current } = model;
  const holder = (name: string) => users.get(name)?.id ?? name;
  assertEquals(row?.live ?? false, current !== undefined, `${note}: held or not`);
  assertEquals(Number(row?.token ?? 0), model.token, `${note}: token`);
  if (current) {
    assertEquals([row?.lock_id, row?.holder], [current.id, holder(current.holder)], `${note}: row`);
    assertEquals(row?.type, users.has(current.holder) ? "client" : "server", `${note}: type`);
  }
  const history = (await tenant.history(tenant.video, database))
    .map((entry) =>
      `${entry.lock_id} ${entry.lock_holder_user_id} ${entry.fencing_token} ${entry.end_reason}`
    );
  const ended = model.leases.filter((lease) => lease.end !== null);
  // a lease that ran out is in the history once somebody has come by; until then it stands in the row
  const unseen = row?.lock_id && !row.live ? row.lock_id : null;
  assertEquals(
    history,
    ended.filter((lease) => lease.id !== unseen)
      .map((lease) => `${lease.id} ${holder(lease.holder)} ${lease.token} ${lease.end}`),
    `${note}: history`,
  );
}

async function check(
  numRuns: number,
  caller: (tenant: Tenant, users: Map<string, User>) => Promise<Caller>,
) {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 40, size: "max" }),
      async (steps) => {
        await using tenant = await newTenant();
        const users = new Map([["anna", await tenant.join("anna")], [
          "ben",
          await tenant.join("ben"),
        ]]);
        await play(steps, tenant, users, await caller(tenant, users));
      },
    ),
    { numRuns, endOnFailure: false },
  );
}

Deno.test("random lives of two locks agree with the model, over HTTP", async () => {
  const functions = { acquire, renew, release };
  await check(
    runs(6, 300),
    (tenant, users) =>
      Promise.resolve((holder, name, body) =>
        functions[name](users.get(holder)?.client ?? tenant.server, body)
      ),
  );
});

Deno.test("random lives of two locks agree with the model, by SQL", async () => {
  await using stack = new AsyncDisposableStack();
  const sessions = new Map<string, Session>();
  await check(runs(150, 10_000), (_, users) =>
    Promise.resolve(async (holder, name, body) => {
      const user = users.get(holder);
      const key = user?.id ?? "server";
      let session = sessions.get(key);
      if (!session) {
        session = openSession(
          user ? { role: "authenticated", sub: user.id } : { role: "service_role" },
        );
        sessions.set(key, stack.use(session));
      }
      const names = Object.keys(body);
      const [row] = await session.run.unsafe<{ answer: Answer }[]>(
        `select public.${name}_lock(${
          names.map((n, i) => `${n} => $${i + 1}`).join(", ")
        }) as answer`,
        Object.values(body) as string[],
      );
      return row!.answer;
    }));
});
