// What locks should do, in plain words, without any of what makes that hard: one caller at a time, and time that is given.
// Times are microseconds. Expected answers have the fields of the real ones.

/** Who calls. */
export interface Caller {
  /** A user's id, or the name that a worker gives itself. */
  id: string;
  type: "client" | "server";
}

/** Which lock, or which locks together. */
export interface Names {
  video: string;
  names: string[];
  /** Whether they were asked for by `database_names`. */
  isSet: boolean;
}

/** A value that the model knows only between bounds, both included. */
export class Within {
  constructor(readonly low: number, readonly high: number) {}
}

interface Lease {
  id: string;
  holder: string;
  type: string;
  token: number;
  set: string[] | null;
  lockedAt: number;
  activeAt: number;
  expiresAt: number;
  ttl: number;
}

interface EndedLease extends Omit<Lease, "activeAt" | "expiresAt" | "ttl"> {
  endedAt: number | Within;
  reason: string;
  endedBy: string | null;
  tenant: string;
}

interface Place {
  id: string;
  holder: string;
  type: string;
  set: string[] | null;
  queuedAt: number | Within;
  keptUntil: number | Within;
}

interface Cancelled {
  id: string;
  type: string;
  holder: string;
  at: number | Within;
}

/** One lock, and all that is known of it. */
export interface Lock {
  video: string;
  name: string;
  /** Whether it has a row. */
  exists: boolean;
  lease: Lease | null;
  ended: Map<string, EndedLease>;
  /** In the order in which they came. */
  places: Place[];
  cancelled: Cancelled[];
  /** No token was higher. */
  token: number;
  serverVersion: number;
  wasabiVersion: number;
}

/** An answer that should come, or `{ code }` of an error. Times in it are numbers. */
export type Expected = Record<string, unknown>;

type Met = { lock: Lock; reason: string | null; end: [string, number | Within] | null };

const HOUR = 3_600_000_000;
const NO_VIDEO = { code: "VIDEO_NOT_FOUND" };
const INVALID = { code: "INVALID_REQUEST" };
const value = (time: number | Within) => typeof time === "number" ? time : time.low;
const sameSet = (a: string[] | null, b: string[] | null) => `${a}` === `${b}`;

/** All locks of some videos. */
export class Model {
  /** The tenant of each video that there is. */
  videos = new Map<string, string>();
  /** The roles of users, by tenant and user. */
  members = new Map<string, string>();
  locks = new Map<string, Lock>();
  /** Now: what the answer says, or a moment between the call and its answer. */
  now = 0;
  /** How much later it is in the model than by the database's clock, because time was made to pass. */
  passed = 0;

  lock(video: string, name: string): Lock {
    let lock = this.locks.get(`${video} ${name}`);
    if (!lock) {
      lock = {
        video,
        name,
        exists: false,
        lease: null,
        ended: new Map(),
        places: [],
        cancelled: [],
        token: 0,
        serverVersion: 0,
        wasabiVersion: 0,
      };
      this.locks.set(`${video} ${name}`, lock);
    }
    return lock;
  }

  maySee(who: Caller, video: string): boolean {
    const tenant = this.videos.get(video);
    return tenant !== undefined &&
      (who.type === "server" || this.members.has(`${tenant} ${who.id}`));
  }

  isLive(lease: Lease | null): boolean {
    return lease !== null && lease.expiresAt > this.now;
  }

  /** The places that count, first come first. */
  line(lock: Lock): Place[] {
    return lock.places.filter((place) =>
      value(place.keptUntil) > this.now &&
      (place.type === "server" || this.maySee({ id: place.holder, type: "client" }, lock.video))
    );
  }

  acquire(
    who: Caller,
    what: Names,
    ask: { id: string; ttl: number; takeOver: boolean; queue: number },
  ): Expected {
    const set = setOf(what);
    if (!this.maySee(who, what.video)) return NO_VIDEO;
    const all = what.names.map((name) => this.meet(who, this.lock(what.video, name), ask));
    const own = ({ id, holder, type }: { id: string; holder: string; type: string }) =>
      id === ask.id && holder === who.id && type === who.type;
    const knownByOtherNames = all.some(({ lock }) =>
      [lock.lease, lock.ended.get(ask.id), ...this.line(lock)]
        .some((known) => known && own(known) && !sameSet(known.set, set))
    );
    if (knownByOtherNames) return INVALID;
    const first = all.find((met) => met.reason === "ended") ??
      all.find((met) => met.reason !== null && met.reason !== "same");
    if (first?.reason === "ended") {
      return {
        acquired: false,
        reason: "ended",
        database_name: first.lock.name,
        end_reason: first.end![0],
        ended_at: first.end![1],
        holder: this.holder(first.lock, who.id, who.type),
        retry_after_ms: 0,
        server_time: this.now,
      };
    }
    if (!first) {
      if (all.some((met) => met.reason === null)) this.grant(who, all.map((a) => a.lock), set, ask);
      return this.granted(what);
    }
    if (ask.queue > 0) this.takePlace(who, all.map((met) => met.lock), first.lock, set, ask);
    return this.refused(who, first.lock, first.reason!, ask.id);
  }

  private meet(
    who: Caller,
    lock: Lock,
    { id, takeOver }: { id: string; takeOver: boolean },
  ): Met {
    const { lease } = lock;
    const mine = lease?.holder === who.id && lease.type === who.type;
    const met = (reason: string | null, end: Met["end"] = null) => ({ lock, reason, end });
    if (lease?.id === id && this.isLive(lease)) return met(mine ? "same" : "held");
    if (lease?.id === id) return met("ended", ["expired", lease.expiresAt]);
    const ended = lock.ended.get(id);
    if (ended) return met("ended", [ended.reason, ended.endedAt]);
    const cancelled = lock.cancelled.find((c) =>
      c.id === id && c.type === who.type && (c.type === "server" || c.holder === who.id)
    );
    if (cancelled) return met("ended", ["cancelled", cancelled.at]);
    if (this.isLive(lease)) return met(takeOver && mine ? null : "held");
    const [head] = this.line(lock);
    const isHead = head?.id === id && head.holder === who.id && head.type === who.type;
    return met(head && !isHead ? "queued" : null);
  }

  private grant(
    who: Caller,
    locks: Lock[],
    set: string[] | null,
    ask: { id: string; ttl: number },
  ) {
    const token = Math.max(this.now - this.passed, ...locks.map((lock) => lock.token + 1));
    for (const lock of locks) {
      this.end(lock, "taken_over", null);
      this.prune(lock);
      lock.places = lock.places.filter((place) =>
        !(place.id === ask.id && place.holder === who.id && place.type === who.type)
      );
      lock.exists = true;
      lock.token = token;
      lock.lease = {
        id: ask.id,
        holder: who.id,
        type: who.type,
        token,
        set,
        lockedAt: this.now,
        activeAt: this.now,
        expiresAt: this.now + ask.ttl * 1e6,
        ttl: ask.ttl,
      };
    }
  }

  /** Puts the lease that there is into the history: as ended now for this reason, or as expired. */
  end(lock: Lock, reason: string, by: string | null, at: number | Within = this.now) {
    const { lease } = lock;
    if (!lease) return;
    const live = this.isLive(lease);
    lock.ended.set(lease.id, {
      id: lease.id,
      holder: lease.holder,
      type: lease.type,
      token: lease.token,
      set: lease.set,
      lockedAt: lease.lockedAt,
      endedAt: live ? at : lease.expiresAt,
      reason: live ? reason : "expired",
      endedBy: live && reason === "force_released" ? by : null,
      tenant: this.videos.get(lock.video)!,
    });
    lock.lease = null;
  }

  private takePlace(
    who: Caller,
    locks: Lock[],
    refusing: Lock,
    set: string[] | null,
    ask: { id: string; queue: number },
  ) {
    const own = (place: Place) =>
      place.id === ask.id && place.holder === who.id && place.type === who.type;
    const until = new Within(this.now + ask.queue * 1e6, this.now + ask.queue * 1e6 + 1e6);
    if (this.line(refusing).some(own)) {
      for (const place of locks.flatMap((lock) => this.line(lock).filter(own))) {
        if (value(place.keptUntil) < value(until)) place.keptUntil = until;
      }
      return;
    }
    const isFull = locks.some((lock) =>
      this.line(lock).filter((p) => p.holder === who.id && p.type === who.type).length >= 10
    );
    if (isFull) return;
    for (const lock of locks) {
      lock.exists = true;
      lock.places = lock.places.filter((place) => !own(place));
      lock.places.push({
        id: ask.id,
        holder: who.id,
        type: who.type,
        set,
        queuedAt: new Within(this.now - 1e6, this.now),
        keptUntil: until,
      });
    }
  }

  private granted({ video, names, isSet }: Names): Expected {
    const all = names.map((name) => this.lock(video, name)).map((lock) => ({
      lock: leaseOf(lock),
      state: {
        server_version: lock.serverVersion,
        wasabi_version: lock.wasabiVersion,
        wasabi_synced_at: null,
      },
    }));
    const locks = all.map(({ lock, state }) => ({ ...lock, state }));
    return { acquired: true, ...(isSet ? { locks } : all[0]), server_time: this.now };
  }

  private refused(who: Caller, lock: Lock, reason: string, id: string): Expected {
    const line = this.line(lock);
    const own = line.findIndex((place) =>
      place.id === id && place.holder === who.id && place.type === who.type
    );
    const { lease } = lock;
    return {
      acquired: false,
      reason,
      database_name: lock.name,
      holder: this.holder(lock, who.id, who.type),
      queue: { position: own < 0 ? null : own + 1, length: line.length },
      // in line 150 ms, and 250 more for each place before one's own, but soon enough to keep the place
      retry_after_ms: own >= 0
        ? Math.min(
          150 + 250 * own,
          Math.floor((value(line[own]!.keptUntil) - this.now) / 1000 / 2),
        )
        : reason === "queued"
        ? Math.min(5000, 1000 * line.length)
        : Math.ceil((lease!.expiresAt - this.now) / 1000),
      server_time: this.now,
    };
  }

  /** Who holds the lock, as a caller sees it who is known by this id. */
  private holder({ lease }: Lock, id: string | undefined, type: string): Expected | null {
    return lease && this.isLive(lease)
      ? {
        lock_holder_user_id: lease.holder,
        lock_type: lease.type,
        locked_at: lease.lockedAt,
        last_activity_at: lease.activeAt,
        expires_at: lease.expiresAt,
        is_you: lease.holder === id && lease.type === type,
      }
      : null;
  }

  renew(who: Caller, what: Names, ask: { id: string; ttl: number; active: boolean }): Expected {
    if (!this.maySee(who, what.video)) return NO_VIDEO;
    const locks = what.names.map((name) => this.lock(what.video, name));
    const isOwn = (a: { id: string; holder: string; type: string } | null | undefined) =>
      a?.id === ask.id && isTheirs(who, a);
    if (
      locks.some((lock) =>
        [lock.lease, lock.ended.get(ask.id)].some((known) =>
          isOwn(known) && !sameSet(known!.set, setOf(what))
        )
      )
    ) return INVALID;
    for (const lock of locks) {
      const ended = lock.ended.get(ask.id);
      if (isOwn(lock.lease) && this.isLive(lock.lease)) continue;
      const reason = isOwn(lock.lease)
        ? "expired"
        : isOwn(ended)
        ? ended!.reason
        : isCancelled(lock, who, ask.id)
        ? "cancelled"
        : "not_held";
      return {
        renewed: false,
        reason,
        database_name: lock.name,
        holder: this.holder(lock, knownId(who, ended), who.type),
        server_time: this.now,
      };
    }
    for (const { lease } of locks) {
      lease!.expiresAt = Math.max(lease!.expiresAt, this.now + ask.ttl * 1e6);
      lease!.ttl = ask.ttl;
      if (ask.active) lease!.activeAt = this.now;
    }
    return {
      renewed: true,
      ...(what.isSet ? { locks: locks.map(leaseOf) } : { lock: leaseOf(locks[0]!) }),
      queue: { length: Math.max(...locks.map((lock) => this.line(lock).length)) },
      server_time: this.now,
    };
  }

  release(
    who: Caller,
    what: Names,
    ask: { id?: string | undefined; holder?: string | undefined; force?: boolean | undefined },
  ): Expected {
    const force = ask.force === true;
    if (who.type === "client" && ask.holder !== undefined && ask.holder !== who.id) {
      return { code: "FORBIDDEN" };
    }
    if (who.type === "client" && force) {
      const role = this.members.get(`${this.videos.get(what.video)} ${who.id}`);
      if (role !== "admin") return role ? { code: "FORBIDDEN" } : NO_VIDEO;
    }
    const all = what.names.map((name) =>
      this.meetRelease(who, this.lock(what.video, name), { ...ask, force })
    );
    const maySee = this.maySee(who, what.video);
    const concernsThem = all.some(({ ends, lock, was }) =>
      ends || was || (ask.id && isCancelled(lock, who, ask.id)) ||
      lock.places.some((place) => place.id === ask.id && isTheirs(who, place))
    );
    if (!maySee && !concernsThem) return NO_VIDEO;
    const byOtherNames = ask.id !== undefined &&
      all.some(({ lock, ends, was }) =>
        (ends && !sameSet(lock.lease!.set, setOf(what))) || (was && !sameSet(was.set, setOf(what)))
      );
    if (byOtherNames) return INVALID;
    if (!maySee && all.some(({ unseen, lock }) => unseen && !lock.exists)) return NO_VIDEO;

    const live = all.filter(({ ends, lock }) => ends && this.isLive(lock.lease));
    const lapsed = all.filter(({ ends, lock }) => ends && !this.isLive(lock.lease));
    const by = who.type === "client" ? who.id : "service_role";
    for (const { lock } of [...live, ...lapsed]) {
      this.end(lock, force ? "force_released" : "released", by);
    }
    for (const { lock, unseen } of all) if (unseen) this.cancel(lock, who, ask.id!);
    const released = live.map(({ lock, lease }) => releasedLease(lock, lock.ended.get(lease!.id)!));
    if (released.length > 0) return releasedAnswer(released, what.isSet);
    if (ask.id === undefined && lapsed.length > 0) {
      return { released: false, reason: "expired", holder: null };
    }
    return this.notReleased(who, what, { ...ask, force });
  }

  private meetRelease(
    who: Caller,
    lock: Lock,
    ask: { id?: string | undefined; holder?: string | undefined; force: boolean },
  ) {
    const { lease } = lock;
    const ends = lease !== null && (ask.id === undefined || lease.id === ask.id) &&
      (ask.force || isTheirs(who, lease) && (ask.holder ?? lease.holder) === lease.holder);
    const ended = ask.id === undefined ? undefined : lock.ended.get(ask.id);
    const was = ended && (ask.force || isTheirs(who, ended)) ? ended : undefined;
    const unseen = ask.id !== undefined && !ask.force && lease?.id !== ask.id && !ended &&
      !isCancelled(lock, who, ask.id);
    return { lock, lease, ends, was, unseen };
  }

  private cancel(lock: Lock, who: Caller, id: string) {
    lock.exists = true;
    lock.places = lock.places.filter((place) => !(place.id === id && isTheirs(who, place)));
    lock.cancelled.push({
      id,
      type: who.type,
      holder: who.type === "client" ? who.id : "",
      at: new Within(this.now - 1e6, this.now + 1e6),
    });
  }

  /** What a release says that ended nothing: how its acquisition had ended already, or why there is nothing to end. */
  private notReleased(
    who: Caller,
    what: Names,
    ask: { id?: string | undefined; holder?: string | undefined; force: boolean },
  ): Expected {
    const all = what.names.map((name) => this.meetRelease(who, this.lock(what.video, name), ask));
    const again = all.filter(({ was }) =>
      was?.reason === "released" || ask.force && was?.reason === "force_released"
    );
    if (again.length > 0) {
      return releasedAnswer(again.map(({ lock, was }) => releasedLease(lock, was!)), what.isSet);
    }
    const { lock, was } = all[0]!;
    const holder = this.maySee(who, what.video)
      ? this.holder(lock, knownId(who, was) ?? ask.holder, who.type)
      : null;
    const reason = was
      ? was.reason
      : ask.id && isCancelled(lock, who, ask.id)
      ? "cancelled"
      : this.isLive(lock.lease)
      ? "held_by_another"
      : "not_held";
    return { released: false, reason, holder };
  }

  advance(who: Caller, video: string, name: string, token: number): Expected {
    const lock = this.lock(video, name);
    const { lease } = lock;
    const may = this.maySee(who, video) && this.isLive(lease) && lease?.token === token &&
      (who.type === "server" || isTheirs(who, lease));
    return may ? { version: ++lock.serverVersion } : { code: "LOCK_NOT_HELD" };
  }

  /** Forgets what only mattered for an hour. */
  prune(lock: Lock) {
    lock.cancelled = lock.cancelled.filter(({ at }) => value(at) >= this.now - HOUR);
    lock.places = lock.places.filter(({ keptUntil }) => value(keptUntil) > this.now);
  }

  cleanUp() {
    for (const lock of this.locks.values()) {
      if (!this.isLive(lock.lease)) this.end(lock, "expired", null);
      this.prune(lock);
    }
  }

  deleteRow(lock: Lock) {
    this.end(lock, "force_released", null, new Within(this.now - 1e6, this.now + 1e6));
    lock.exists = false;
    lock.serverVersion = lock.wasabiVersion = 0;
    lock.token = Math.max(0, ...[...lock.ended.values()].map((ended) => ended.token));
  }

  deleteVideo(video: string) {
    for (const lock of this.locks.values()) if (lock.video === video) this.deleteRow(lock);
    this.videos.delete(video);
  }

  /** A row that gets another key is another lock: free, with higher tokens than both had. */
  changeId(from: string, to: string) {
    this.videos.set(to, this.videos.get(from)!);
    for (const lock of [...this.locks.values()].filter((l) => l.video === from && l.exists)) {
      const moved = this.lock(to, lock.name);
      moved.exists = true;
      moved.serverVersion = lock.serverVersion;
      moved.wasabiVersion = lock.wasabiVersion;
      moved.token = Math.max(lock.token, moved.token) + 1;
      this.deleteRow(lock);
    }
    this.videos.delete(from);
  }
}

function setOf({ names, isSet }: Names): string[] | null {
  return isSet && names.length > 1 ? names.toSorted() : null; // one name is one lock, whichever field named it
}

/** For a lock_id, all servers are one party; users are each their own. */
function isTheirs(who: Caller, what: { holder: string; type: string }): boolean {
  return what.type === who.type && (who.type === "server" || what.holder === who.id);
}

/** By what name a caller of renew or release is known: a server's is that of the acquisition that it names. */
function knownId(who: Caller, was: EndedLease | undefined): string | undefined {
  return who.type === "client" ? who.id : was && isTheirs(who, was) ? was.holder : undefined;
}

function isCancelled(lock: Lock, who: Caller, id: string): boolean {
  return lock.cancelled.some((cancelled) => cancelled.id === id && isTheirs(who, cancelled));
}

function leaseOf({ video, name, lease }: Lock): Expected {
  return {
    video_id: video,
    database_name: name,
    lock_id: lease!.id,
    lock_holder_user_id: lease!.holder,
    lock_type: lease!.type,
    fencing_token: lease!.token,
    locked_at: lease!.lockedAt,
    expires_at: lease!.expiresAt,
    ttl_seconds: lease!.ttl,
  };
}

function releasedLease({ video, name }: Lock, ended: EndedLease): Expected {
  return {
    video_id: video,
    database_name: name,
    lock_id: ended.id,
    lock_holder_user_id: ended.holder,
    lock_type: ended.type,
    fencing_token: ended.token,
    locked_at: ended.lockedAt,
    released_at: ended.endedAt,
  };
}

function releasedAnswer(released: Expected[], isSet: boolean): Expected {
  return isSet ? { released: true, locks: released } : { released: true, lock: released[0] };
}
