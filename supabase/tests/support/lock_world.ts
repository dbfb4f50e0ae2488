import { assertEquals } from "@std/assert";
import { microseconds } from "./clock.ts";
import type { Door, Visitor } from "./doors.ts";
import { CALLERS, type CallStep, IDS, type Step } from "./lock_lives.ts";
import { type Caller, type Expected, Model, type Names, Within } from "./lock_model.ts";
import { observe, type Seen } from "./observe.ts";
import { sql } from "./stack.ts";
import { newTenant, type Tenant, type User } from "./tenant.ts";

const TIMES = new Set([
  "locked_at",
  "last_activity_at",
  "expires_at",
  "released_at",
  "ended_at",
  "server_time",
  "queued_at",
  "kept_until",
  "cancelled_at",
]);

/** A caller, for the model and for the door. */
type Acting = { caller: Caller; visitor: Visitor };

/** The locks of two videos, once in the database and once in the model. */
export class LockWorld implements AsyncDisposable {
  private model = new Model();
  private seen!: Seen;
  private ids: string[] = IDS.map(() => crypto.randomUUID());
  private steps = 0;

  private constructor(
    private door: Door,
    private kinds: Map<string, number>,
    private tenants: [Tenant, Tenant],
    private videos: [string, string],
    private users: Map<string, User>,
  ) {}

  /**
   * Makes a world of two tenants, of which one owns two videos.
   *
   * @param door How its callers come to the locks.
   * @param kinds Counts the kinds of answers.
   * @returns The world; `await using` removes it.
   */
  static async create(door: Door, kinds: Map<string, number>): Promise<LockWorld> {
    const [tenant, other] = [await newTenant(), await newTenant()];
    const users = new Map<string, User>();
    const join = async (to: Tenant, name: string, role?: "admin") =>
      users.set(name, await to.join(name, role));
    await join(tenant, "anna");
    await join(tenant, "ben", "admin");
    await join(other, "ben");
    await join(other, "zoe");
    const videos: [string, string] = [tenant.video, await tenant.addVideo()];
    const world = new LockWorld(door, kinds, [tenant, other], videos, users);
    for (const video of videos) world.model.videos.set(video, tenant.id);
    const member = (of: Tenant, name: string, role: string) =>
      world.model.members.set(`${of.id} ${users.get(name)!.id}`, role);
    member(tenant, "anna", "member");
    member(tenant, "ben", "admin");
    member(other, "ben", "member");
    member(other, "zoe", "member");
    world.seen = await observe(videos, 0);
    return world;
  }

  async [Symbol.asyncDispose]() {
    const [tenant, other] = this.tenants;
    await other[Symbol.asyncDispose]();
    await tenant[Symbol.asyncDispose]();
  }

  /**
   * Lets one thing happen, and compares all that can be seen.
   *
   * @param step What happens.
   * @throws {AssertionError} Where database and model differ.
   */
  async take(step: Step): Promise<void> {
    const note = `step ${this.steps++}: ${JSON.stringify(step)}`;
    this.model.now = this.seen.now;
    if ("id" in step) await this.call(step, note);
    else if (step.do === "pass") await this.pass(step.seconds);
    else await this.happen(step.do, step.name);
    this.seen = await observe(this.videos, this.model.passed);
    this.model.now = this.seen.now;
    this.assertAgrees(note);
  }

  private who(name: typeof CALLERS[number]): Acting {
    const user = this.users.get(name);
    return user
      ? { caller: { id: user.id, type: "client" }, visitor: { user } }
      : { caller: { id: name, type: "server" }, visitor: {} };
  }

  private async call(step: CallStep, note: string) {
    const newest = step.newest && this.newest(step.newest);
    const index = newest ? this.ids.indexOf(newest) : step.id;
    const usual = IDS[index]!;
    const { names, isSet } = step.of ?? usual;
    const what: Names = { video: this.videos[step.elsewhere ? 1 : 0], names, isSet };
    const by = this.who(step.by ?? usual.holder);
    const id = this.ids[index]!;
    switch (step.do) {
      case "acquire":
        return await this.acquire(step, by, what, id, note);
      case "renew": {
        const { ttl, active } = step;
        return await this.compare(
          note,
          // upper case: a UUID is compared as one
          this.door(by.visitor, "renew_lock", {
            ...fieldsOf(what),
            lock_id: id.toUpperCase(),
            ttl_seconds: ttl,
            active,
          }),
          () => this.model.renew(by.caller, what, { id, ttl: ttl ?? 120, active: active ?? true }),
        );
      }
      case "release": {
        const ask = {
          id: step.how.includes("id") ? id : undefined,
          holder: step.how === "holder" ? by.caller.id : undefined,
          force: step.how.includes("force") || undefined,
        };
        return await this.compare(
          note,
          this.door(by.visitor, "release_lock", {
            ...fieldsOf(what),
            lock_id: ask.id ?? null,
            lock_holder_user_id: ask.holder ?? null,
            force: ask.force ?? null,
          }),
          () => this.model.release(by.caller, what, ask),
        );
      }
      case "advance":
        return await this.advance(step.age, by, what, note);
    }
  }

  private async acquire(
    step: Extract<CallStep, { do: "acquire" }>,
    { caller, visitor }: Acting,
    what: Names,
    id: string,
    note: string,
  ) {
    const isUnnamed = step.isUnnamed && !step.queue;
    await this.compare(
      note,
      this.door(visitor, "acquire_lock", {
        ...fieldsOf(what),
        ...(isUnnamed ? {} : { lock_id: id }),
        ...(caller.type === "server" ? { lock_holder_user_id: caller.id } : {}),
        ttl_seconds: step.ttl,
        take_over: step.takeOver,
        queue_seconds: step.queue,
      }),
      (answer) =>
        this.model.acquire(caller, what, {
          id: isUnnamed ? newId(answer) : id,
          ttl: step.ttl ?? 120,
          takeOver: step.takeOver,
          queue: step.queue ?? 0,
        }),
    );
  }

  /** @param age How many grants ago the token was given. */
  private async advance(age: number, { caller, visitor }: Acting, what: Names, note: string) {
    const [name = ""] = what.names;
    const lock = this.model.lock(what.video, name);
    const tokens = [
      ...[...lock.ended.values()].map((ended) => ended.token),
      ...(lock.lease ? [lock.lease.token] : []),
    ].sort((a, b) => b - a);
    const token = tokens[age] ?? lock.token + 1;
    await this.compare(
      note,
      this.door(visitor, "advance_server_version", {
        video_id: what.video,
        database_name: name,
        fencing_token: token,
      }),
      () => this.model.advance(caller, what.video, name, token),
    );
  }

  /** The lock_id that holds a lock, or that held it last; none if it is not one of those that take part here. */
  private newest({ name, isHeld }: { name: string; isHeld: boolean }): string | undefined {
    const { lease, ended } = this.model.lock(this.videos[0], name);
    const id = isHeld ? lease?.id : [...ended.keys()].at(-1);
    return this.ids.find((known) => known === id);
  }

  /** Compares an answer with the expected one, and counts its kind. */
  private async compare(
    note: string,
    answering: Promise<Expected>,
    expect: (answer: Expected) => Expected,
  ) {
    const answer = this.inNumbers(await answering) as Expected;
    const [lock] = (answer.locks ?? [answer.lock]) as (Record<string, number> | undefined)[];
    const now = (answer.server_time ?? lock?.released_at) as number | undefined;
    // a release that is repeated is of a moment long ago
    if (now !== undefined && now > this.model.now) this.model.now = now;
    const expected = expect(answer);
    const kind = this.isTakeOver() ? "granted take-over" : kindOf(answer, expected);
    this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + 1);
    // the contract fixes no more of an error than its code, and server_time comes with every answer that HTTP gives
    if (!("server_time" in expected)) delete answer.server_time;
    assertEquals(answer, settle(expected, answer), note);
  }

  /** Whether a lease has just been taken over. */
  private isTakeOver(): boolean {
    return [...this.model.locks.values()].some((lock) =>
      [...lock.ended.values()].some(({ reason, endedAt }) =>
        reason === "taken_over" && endedAt === this.model.now
      )
    );
  }

  private inNumbers(json: unknown, name = ""): unknown {
    if (typeof json === "string" && TIMES.has(name)) {
      return microseconds(json) + this.model.passed;
    }
    if (Array.isArray(json)) return json.map((one) => this.inNumbers(one));
    if (json === null || typeof json !== "object") return json;
    return Object.fromEntries(
      Object.entries(json).map(([key, one]) => [key, this.inNumbers(one, key)]),
    );
  }

  private async pass(seconds: number) {
    const videos = sql(this.videos);
    const by = sql`${seconds} * interval '1 second'`;
    await sql`
      with state as (
        update public.video_database_state
        set locked_at = locked_at - ${by}, last_activity_at = last_activity_at - ${by},
          lock_expires_at = lock_expires_at - ${by}
        where video_id in ${videos} and lock_id is not null
      ), history as (
        update public.video_database_lock_history
        set locked_at = locked_at - ${by}, ended_at = ended_at - ${by} where video_id in ${videos}
      ), place as (
        update holdfast.place
        set queued_at = queued_at - ${by}, kept_until = kept_until - ${by} where video_id in ${videos}
      )
      update holdfast.cancellation set cancelled_at = cancelled_at - ${by} where video_id in ${videos}`;
    this.model.passed += seconds * 1e6;
  }

  private async happen(what: Extract<Step, { name: string }>["do"], name: string) {
    const { model, videos: [video], tenants: [tenant] } = this;
    const lock = model.lock(video, name);
    switch (what) {
      case "clean up":
        await sql`select public.release_expired_locks()`;
        return model.cleanUp();
      case "delete row":
        await sql`delete from public.video_database_state where video_id = ${video} and database_name = ${name}`;
        return model.deleteRow(lock);
      case "make row":
        await sql`
          insert into public.video_database_state (video_id, database_name, tenant_id)
          select id, ${name}, tenant_id from public.videos where id = ${video} on conflict do nothing`;
        if (model.videos.has(video)) lock.exists = true;
        return;
      case "leave":
        await tenant.leave(this.users.get("anna")!);
        model.members.delete(`${tenant.id} ${this.users.get("anna")!.id}`);
        return;
      case "join":
        await tenant.join("anna");
        model.members.set(`${tenant.id} ${this.users.get("anna")!.id}`, "member");
        return;
      case "set versions":
        await sql`
          update public.video_database_state set server_version = 40, wasabi_version = 2
          where video_id = ${video} and database_name = ${name}`;
        if (lock.exists) [lock.serverVersion, lock.wasabiVersion] = [40, 2];
        return;
      case "clock was ahead":
        // the newest grant was given while the clock was an hour ahead
        await sql`
          update public.video_database_state set fencing_token = fencing_token + 3600000000
          where video_id = ${video} and database_name = ${name} and lock_id is not null`;
        if (lock.lease) lock.lease.token = lock.token = lock.lease.token + 3_600_000_000;
        return;
      case "crowd":
        return await this.crowd(name);
      default:
        return await this.changeVideo(what);
    }
  }

  private async changeVideo(
    what: "delete video" | "make video" | "change id" | "change tenant",
  ) {
    const { model, videos: [video, other], tenants: [tenant, elsewhere] } = this;
    switch (what) {
      case "delete video":
        await sql`delete from public.videos where id = ${video}`;
        return model.deleteVideo(video);
      case "make video":
        await sql`
          insert into public.videos (id, tenant_id, storage_key, status)
          values (${video}, ${tenant.id}, 'again', 'uploading') on conflict do nothing`;
        if (!model.videos.has(video)) model.videos.set(video, tenant.id);
        return;
      case "change id":
        // the other video gets the id of this one, which makes room: an old id is used again
        await sql`delete from public.videos where id = ${video}`;
        model.deleteVideo(video);
        if (!model.videos.has(other)) return;
        await sql`update public.videos set id = ${video} where id = ${other}`;
        return model.changeId(other, video);
      case "change tenant": {
        if (!model.videos.has(video)) return;
        const to = model.videos.get(video) === tenant.id ? elsewhere.id : tenant.id;
        await sql`update public.videos set tenant_id = ${to} where id = ${video}`;
        model.videos.set(video, to);
      }
    }
  }

  /** One holder wants twelve places. */
  private async crowd(name: string) {
    const { caller, visitor } = this.who("worker-2");
    const what = { video: this.videos[0], names: [name], isSet: false };
    for (let i = 0; i < 12; i++) {
      const id = crypto.randomUUID();
      await this.compare(
        `place ${i} of a crowd`,
        this.door(visitor, "acquire_lock", {
          video_id: what.video,
          database_name: name,
          lock_id: id,
          lock_holder_user_id: caller.id,
          queue_seconds: 20,
        }),
        () => this.model.acquire(caller, what, { id, ttl: 120, takeOver: false, queue: 20 }),
      );
    }
  }

  private assertAgrees(note: string) {
    const { model, seen } = this;
    // whether a call that granted nothing made the row, free, is not fixed
    for (const { key, id } of seen.all.rows) {
      if (id === null) model.lock(...key.split(" ") as [string, string]).exists = true;
    }
    const locks = [...model.locks.values()];
    const expected = {
      rows: locks.filter((lock) => lock.exists).map((lock) => ({
        key: `${lock.video} ${lock.name}`,
        tenant: model.videos.get(lock.video)!,
        id: lock.lease?.id ?? null,
        holder: lock.lease?.holder ?? null,
        type: lock.lease?.type ?? null,
        set: lock.lease?.set ?? null,
        lockedAt: lock.lease?.lockedAt ?? null,
        activeAt: lock.lease?.activeAt ?? null,
        expiresAt: lock.lease?.expiresAt ?? null,
        ttl: lock.lease?.ttl ?? null,
        versions: `${lock.serverVersion} ${lock.wasabiVersion}`,
        token: lock.lease?.token ?? new Within(lock.token, Infinity),
      })),
      history: locks.flatMap((lock) =>
        [...lock.ended.values()].map((ended) => ({ key: `${lock.video} ${lock.name}`, ...ended }))
      ),
      places: locks.flatMap((lock) =>
        lock.places.filter(({ keptUntil }) =>
          (typeof keptUntil === "number" ? keptUntil : keptUntil.low) > model.now
        ).map((place) => ({ key: `${lock.video} ${lock.name}`, ...place }))
      ),
      cancelled: locks.flatMap((lock) =>
        lock.cancelled.map((cancelled) => ({ key: `${lock.video} ${lock.name}`, ...cancelled }))
      ),
      held: locks.filter((lock) => lock.exists && model.isLive(lock.lease)).map((lock) =>
        `${lock.video} ${lock.name} ${lock.lease!.id} ${model.line(lock).length}`
      ),
      waiting: locks.filter((lock) => lock.exists).flatMap((lock) =>
        model.line(lock).map((place, i) =>
          `${lock.video} ${lock.name} ${i + 1} ${place.type} ${place.holder}`
        )
      ),
    };
    const actual = seen.all;
    for (const part of Object.keys(expected) as (keyof typeof expected)[]) {
      const [here, there] = [sorted<unknown>(expected[part]), sorted<unknown>(actual[part])];
      assertEquals(there, here.map((one, i) => settle(one, there[i])), `${note}: ${part}`);
    }
    this.adopt();
  }

  /** What the model knew between bounds, and has agreed, it knows exactly from now on. */
  private adopt() {
    const { model, seen } = this;
    for (const lock of model.locks.values()) {
      const key = `${lock.video} ${lock.name}`;
      for (const one of seen.all.history) {
        if (one.key === key) lock.ended.get(one.id)!.endedAt = one.endedAt;
      }
      const same = (a: { id: string; type: string; holder: string }) => (b: typeof a) =>
        a.id === b.id && a.type === b.type && a.holder === b.holder;
      for (const one of seen.all.places.filter((place) => place.key === key)) {
        const { queuedAt, keptUntil } = one;
        Object.assign(lock.places.find(same(one))!, { queuedAt, keptUntil });
      }
      for (const one of seen.all.cancelled.filter((cancelled) => cancelled.key === key)) {
        lock.cancelled.find(same(one))!.at = one.at;
      }
    }
  }
}

function sorted<T>(all: readonly T[]): T[] {
  const key = (one: T) => {
    if (typeof one === "string") return one;
    const { key, id, type, holder } = one as Record<string, unknown>;
    // of a row, only its key: what it holds is to be compared
    return "expiresAt" in (one as object) ? `${key}` : `${key} ${id} ${type} ${holder}`;
  };
  return all.toSorted((a, b) => key(a) < key(b) ? -1 : 1);
}

/** The expected value with its bounds filled in by what came, where that lies between them. */
function settle(expected: unknown, actual: unknown): unknown {
  if (expected instanceof Within) {
    return typeof actual === "number" && actual >= expected.low && actual <= expected.high
      ? actual
      : expected;
  }
  if (Array.isArray(expected)) {
    return expected.map((one, i) => settle(one, (actual as unknown[] | undefined)?.[i]));
  }
  if (expected === null || typeof expected !== "object") return expected;
  return Object.fromEntries(
    Object.entries(expected).map(([key, one]) => [
      key,
      settle(one, (actual as Record<string, unknown> | null | undefined)?.[key]),
    ]),
  );
}

/** The lock_id that the service made, if it granted anything; else one that nobody has. */
function newId(answer: Expected): string {
  const [lock] = (answer.locks ?? [answer.lock]) as ({ lock_id: string } | undefined)[];
  return lock?.lock_id ?? crypto.randomUUID();
}

function fieldsOf({ video, names, isSet }: Names): Record<string, unknown> {
  return { video_id: video, ...(isSet ? { database_names: names } : { database_name: names[0] }) };
}

/** What kind of an answer this is, for counting. */
function kindOf(answer: Expected, expected: Expected): string {
  const is = (field: string) => typeof answer[field] === "boolean";
  const set = answer.locks ? " set" : "";
  if (typeof answer.code === "string") return answer.code;
  if (is("acquired")) {
    if (answer.acquired) {
      const [lock] = (answer.locks ?? [answer.lock]) as { locked_at: number }[];
      return lock!.locked_at === expected.server_time ? `granted${set}` : "granted again";
    }
    if (answer.reason === "ended") return `ended ${answer.end_reason}`;
    const { position } = answer.queue as { position: number | null };
    return `${answer.reason}${position ? " in line" : ""}`;
  }
  if (is("renewed")) return answer.renewed ? `renewed${set}` : `renew ${answer.reason}`;
  if (is("released")) return answer.released ? `released${set}` : `release ${answer.reason}`;
  return "version";
}
