// Decides whether a history of one object is linearizable: whether each call can be given one moment between its sending and
// its answer, so that the object, if it did them one by one at these moments, would give the same answers.
// The search is that of J. Wing and C. Gong, "Testing and verifying concurrent objects" (1993), which remembers the
// configurations that it has been in, as in G. Lowe, "Testing for linearizability" (2017); Knossos and Porcupine do the same.

/** One call to the object. */
export interface Operation<Input> {
  input: Input;
  called: number;
  /** Infinity: unknown; it may have taken effect at any time since it was sent, or never. */
  returned: number;
  /** Of one that is unknown: when it had taken effect, or never would, as what worked on it was gone. Left out: never. */
  settled?: number | undefined;
  /** When it probably took effect; only speeds the search up. */
  hint: number;
}

/** What the object does, one call at a time. */
export interface Sequential<Input, State> {
  initial: State;
  /** The states that it may be in after a call with that answer: none if it could not answer so. */
  step(state: State, input: Input): State[];
  /** Equal texts for equal states. */
  key(state: State): string;
}

/** What the search came to. */
export interface Verdict<Input> {
  linearizable: boolean;
  /** It gave up: there may be an order, or none. */
  isUndecided?: boolean;
  /** Where it got no further: the calls that had to come next, none of which could. */
  stuck: Operation<Input>[];
  /** How many configurations it has been in. */
  visited: number;
}

/**
 * Searches for an order of the calls that explains their answers.
 *
 * @param operations The calls.
 * @param object What each of them should do.
 * @param most How many configurations to look at before giving up.
 * @returns Whether there is such an order.
 */
export function checkLinearizable<Input, State>(
  operations: Operation<Input>[],
  object: Sequential<Input, State>,
  most = 400_000,
): Verdict<Input> {
  const sorted = operations.toSorted((a, b) => a.called - b.called);
  const all = sorted.filter(({ returned }) => returned !== Infinity);
  // Apart, as they need not come at all: among the others each of them would stay a candidate to the end.
  const open = sorted.filter(({ returned }) => returned === Infinity);
  // A configuration: all before `first` are done, of the others those in `done`, and of the open ones those in `taken`.
  type Configuration = { first: number; done: number[]; taken: number[]; state: State };
  const stack: Configuration[] = [{ first: 0, done: [], taken: [], state: object.initial }];
  const seen = new Set<string>();
  let furthest = -1;
  let stuck: Operation<Input>[] = [];
  while (stack.length > 0) {
    if (seen.size >= most) {
      return { linearizable: true, isUndecided: true, stuck: [], visited: seen.size };
    }
    const { first, done, taken, state } = stack.pop()!;
    const { next, until } = candidates(all, first, done);
    if (next.length === 0) return { linearizable: true, stuck: [], visited: seen.size };
    if (first + done.length > furthest) {
      furthest = first + done.length;
      stuck = next.map((i) => all[i]!);
    }
    const push = (configuration: Configuration) => {
      const { first, done, taken, state } = configuration;
      const key = `${first} ${done} ${taken} ${object.key(state)}`;
      if (seen.has(key)) return;
      seen.add(key);
      stack.push(configuration);
    };
    const latest = all[Math.max(first - 1, done.at(-1) ?? -1)]?.called ?? -Infinity;
    const steps = [
      ...next.map((i) => ({
        operation: all[i]!,
        then: { ...advance(first, [...done, i]), taken },
      })),
      ...open.flatMap((operation, i) =>
        operation.called > until || taken.includes(i) || (operation.settled ?? Infinity) < latest
          ? []
          : [{ operation, then: { first, done, taken: [...taken, i].sort((a, b) => a - b) } }]
      ),
    ];
    // the most probable last, as it is taken from the stack first
    for (const { operation, then } of steps.sort((a, b) => b.operation.hint - a.operation.hint)) {
      for (const after of object.step(state, operation.input)) {
        // an open call that changes nothing explains nothing
        if (then.taken !== taken && object.key(after) === object.key(state)) continue;
        push({ ...then, state: after });
      }
    }
  }
  return { linearizable: false, stuck, visited: seen.size };
}

/** The answered calls that may come next, as they are not done and were sent before any other of those was answered; and when that was. */
function candidates(
  all: Operation<unknown>[],
  first: number,
  done: number[],
): { next: number[]; until: number } {
  const found: number[] = [];
  let until = Infinity;
  for (let i = first; i < all.length && all[i]!.called <= until; i++) {
    if (done.includes(i)) continue;
    found.push(i);
    until = Math.min(until, all[i]!.returned);
  }
  return { next: found.filter((i) => all[i]!.called <= until), until };
}

function advance(first: number, done: number[]): { first: number; done: number[] } {
  const rest = new Set(done);
  while (rest.delete(first)) first++;
  return { first, done: [...rest].sort((a, b) => a - b) };
}
