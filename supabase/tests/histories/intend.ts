import type { Call } from "./history.ts";
import type { Random } from "./random.ts";
import type { Intention, Recording } from "./recording.ts";

/** What a caller may want, with how often. */
const WANTS = [
  { what: "acquire", weight: 12 },
  { what: "acquire again", weight: 4 },
  { what: "take over", weight: 2 },
  { what: "renew", weight: 8 },
  { what: "release", weight: 12 },
  { what: "release early", weight: 1 },
  { what: "release mine", weight: 1 },
  { what: "force", weight: 1 },
  { what: "advance", weight: 2 },
  { what: "write", weight: 5 },
] as const;

/** What they want it of. */
const LOCKS = [
  { names: ["layout"], isSet: false, focus: "usual case", weight: 7 },
  // hardly anybody wants this one, so that its leases run out
  { names: ["audio"], isSet: false, focus: "usual case", weight: 2 },
  { names: ["captions"], isSet: false, focus: "line", weight: 3 },
  { names: ["captions", "chapters"], isSet: true, focus: "line", weight: 2 },
];

/**
 * Makes up what a caller wants next.
 *
 * @param recording What callers know of.
 * @param who Who it is.
 * @param draw Decides.
 * @returns What they want.
 */
export function intend(
  recording: Recording,
  who: { holder: string; type: Call["type"] },
  draw: Random,
): Intention {
  const { what } = draw.one(WANTS);
  const newest = {
    id: crypto.randomUUID(),
    ...draw.one(LOCKS.filter(({ focus }) => (recording.focus ?? focus) === focus)),
  };
  const pool = recording.pool.get(newest.names[0]!)!;
  // the grant that is probably held, or one's own last one, or any, be it somebody else's or long over
  const chosen = draw.one([
    { one: pool.findLast(({ token }) => token !== undefined), weight: 12 },
    { one: pool.findLast(({ holder }) => holder === who.holder), weight: 2 },
    { one: pool.length > 0 ? draw.one(pool) : undefined, weight: 3 },
  ]).one;
  // These locks see no line and no cancellation: only there the functions' usual case is taken.
  const isPlain = ["layout", "audio"].includes(newest.names[0]!);
  const ttl = draw.one([1, 1, 1, 2, 60]);
  const { id, names, isSet } = chosen ?? newest;
  const key = { names, isSet };
  switch (what) {
    case "acquire":
      return acquireOf(newest, { ttl, queue: isPlain ? 0 : draw.one([0, 1, 2]) });
    case "acquire again":
      return acquireOf({ id, ...key }, { ttl, queue: isPlain ? 0 : draw.one([0, 2]) });
    case "take over":
      return acquireOf({ ...newest, ...key }, { ttl, takeOver: true });
    case "renew":
      return { op: "renew", ...key, ask: { id, ttl, active: draw.chance(0.7) } };
    case "release":
      if (isPlain && chosen?.token === undefined) return acquireOf(newest, { ttl });
      return { op: "release", ...key, ask: { id } };
    case "release early":
      if (isPlain) return acquireOf(newest, { ttl });
      recording.remember({ ...newest, ...who });
      return { op: "release", names: newest.names, isSet: newest.isSet, ask: { id: newest.id } };
    case "release mine":
      return { op: "release", ...key, ask: { byHolder: true } };
    case "force":
      if (who.type === "client") return acquireOf(newest, { ttl });
      return {
        op: "release",
        ...key,
        ask: draw.chance(0.5) ? { force: true } : { id, force: true },
      };
    case "advance":
    case "write":
      return {
        op: what,
        names: [draw.one(names)],
        isSet: false,
        ask: { token: chosen?.token ?? 1 },
      };
  }
}

/**
 * An acquire, with what is usual where nothing else is said.
 *
 * @param what Its lock_id and locks.
 * @param ask What is special.
 * @returns The intention.
 */
export function acquireOf(
  { id, names, isSet }: { id: string; names: string[]; isSet: boolean },
  ask: Call["ask"],
): Intention {
  return { op: "acquire", names, isSet, ask: { id, takeOver: false, queue: 0, ...ask } };
}

/**
 * The fields of a call, as the functions take them.
 *
 * @param video The video.
 * @param holder Who calls.
 * @param type As what.
 * @param intention What they want.
 * @returns The fields.
 */
export function fieldsOf(video: string, holder: string, type: Call["type"], intention: Intention) {
  const { op, names, isSet, ask } = intention;
  const [name] = names;
  return {
    video_id: video,
    ...(isSet ? { database_names: names } : { database_name: name }),
    ...(ask.id ? { lock_id: ask.id } : {}),
    ...(ask.ttl ? { ttl_seconds: ask.ttl } : {}),
    ...(op === "acquire" && type === "server" || ask.byHolder
      ? { lock_holder_user_id: holder }
      : {}),
    ...(op === "acquire" ? { take_over: ask.takeOver, queue_seconds: ask.queue } : {}),
    ...(op === "renew" ? { active: ask.active } : {}),
    ...(ask.force ? { force: true } : {}),
    ...(ask.token ? { fencing_token: ask.token } : {}),
  };
}
