import { random } from "../histories/random.ts";
import { openSession } from "../support/race.ts";
import { acquire, release, renew, sql } from "../support/stack.ts";
import { newTenant } from "../support/tenant.ts";
import { ANSWERS } from "./spin.ts";

/** One call of a run, in the model's words. */
interface Recorded {
  caller: number;
  op: number;
  id: number;
  called: number;
  returned: number;
  answer: string;
}

const IDS = 10;
const OPS = [
  { op: 0, weight: 8 },
  { op: 1, weight: 2 },
  { op: 2, weight: 6 },
  { op: 3, weight: 4 },
  { op: 4, weight: 4 },
];

/**
 * Lets callers call one lock at the same time, over HTTP and by SQL, and writes down what they did for run.pml.
 *
 * @param seed What they want.
 * @param callers How many; one more is the owner, who lets leases run out and deletes the row.
 * @param calls How many calls each of them makes.
 * @returns The C code, and how many calls there are.
 */
export async function recordRun(
  seed: number,
  callers: number,
  calls: number,
): Promise<{ header: string; size: string; count: number }> {
  await using tenant = await newTenant();
  await using session = openSession({ role: "service_role" });
  const ids = Array.from({ length: IDS }, () => crypto.randomUUID());
  const tokens: (number | undefined)[] = [];
  const done: Recorded[] = [];
  const key = (id: number) => ({
    video_id: tenant.video,
    database_name: "layout",
    lock_id: ids[id]!,
  });
  const send = async (op: number, id: number): Promise<string> => {
    if (op < 2) {
      const answer = await acquire(tenant.server, {
        ...key(id),
        lock_holder_user_id: `worker-${id % 2}`,
        ttl_seconds: 3600,
        take_over: op === 1,
      });
      if (answer.acquired) tokens[id] = answer.lock!.fencing_token;
      return answer.acquired ? "granted" : answer.reason!;
    }
    if (op === 2) {
      const answer = await release(tenant.server, key(id));
      return answer.released ? "released" : answer.reason!;
    }
    if (op === 3) {
      const answer = await renew(tenant.server, { ...key(id), ttl_seconds: 3600 });
      return answer.renewed ? "renewed" : answer.reason!;
    }
    if (op === 4) {
      if (tokens[id] === undefined) return "busy";
      return await session.run`
        select public.assert_lock_held(${tenant.video}, 'layout', ${tokens[id]})`
        .then(() => "written", ({ code }) => code === "PT412" ? "refused" : "busy");
    }
    if (op === 5) await tenant.backdate(7200).catch(() => {});
    else await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
    return "nothing";
  };
  await Promise.all(Array.from({ length: callers + 1 }, async (_, caller) => {
    const draw = random(seed * 100 + caller);
    const isOwner = caller === callers;
    for (let i = 0; i < calls; i++) {
      const op = isOwner ? draw.one([5, 5, 6]) : draw.one(OPS).op;
      const id = Math.floor(draw.fraction() * IDS);
      const called = performance.now();
      const answer = await send(op, id);
      done.push({ caller, op, id, called, returned: performance.now(), answer });
      if (isOwner) await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }));
  return inC(done.filter(({ answer }) => answer !== "busy"), callers + 1);
}

function inC(done: Recorded[], callers: number) {
  const sorted = done.toSorted((a, b) => a.caller - b.caller || a.called - b.called);
  const of = (caller: number) => sorted.filter((one) => one.caller === caller);
  const all = Array.from({ length: callers }, (_, i) => i);
  // how many calls of each caller had returned before this one was sent
  const needs = sorted.map(({ called }) =>
    `{${all.map((caller) => of(caller).filter(({ returned }) => returned < called).length)}}`
  );
  const number = (answer: string) => ANSWERS.indexOf(answer);
  const array = (name: string, values: (string | number)[]) =>
    `static const unsigned char ${name}[] = {${values}};\n`;
  const header = array("OP", sorted.map(({ op }) => op)) +
    array("ID", sorted.map(({ id }) => id)) +
    array("ANSWER", sorted.map(({ answer }) => number(answer))) +
    array(
      "WRONG_ANSWER",
      sorted.map(({ op, answer }) =>
        number(op < 2 ? answer === "granted" ? "held" : "granted" : "busy")
      ),
    ) +
    `static const unsigned char NEED[][${callers}] = {${needs}};\n` +
    `static const short FIRST[] = {${
      all.map((caller) => sorted.findIndex((one) => one.caller === caller))
    }};\n` +
    `static const unsigned char LAST[] = {${all.map((caller) => of(caller).length)}};\n` +
    `static int may_go(unsigned char *done, int me) {
  if (done[me] >= LAST[me]) return 0;
  for (int i = 0; i < ${callers}; i++) if (done[i] < NEED[FIRST[me] + done[me]][i]) return 0;
  return 1;
}
/* spin takes a call with arguments for a side effect, unless it is behind a name; P0 is the first process type */
#define MAY_GO may_go(now.done, ((P0 *)_this)->me)\n`;
  const size = `#define IDS ${IDS}\n#define CALLERS ${callers}\n#define CALLS ${sorted.length}\n`;
  return { header, size, count: sorted.length };
}
