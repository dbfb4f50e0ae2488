const open = new Set<AsyncDisposableStack>();
const starting = new Set<Promise<unknown>>();

/**
 * A stack for what is started, which is ended also when the benchmark is interrupted, by Ctrl-C or by whoever ends it.
 *
 * @returns An empty stack, to be disposed of like any other.
 */
export function ours(): AsyncDisposableStack {
  const stack = new AsyncDisposableStack();
  open.add(stack);
  stack.defer(() => void open.delete(stack));
  return stack;
}

/**
 * Has an interruption wait until something has started, because only then it can be ended whole.
 *
 * @param start Its start.
 * @returns What that gives.
 */
export async function whole<T>(start: Promise<T>): Promise<T> {
  starting.add(start);
  try {
    return await start;
  } finally {
    starting.delete(start);
  }
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, async () => {
    await Promise.allSettled(starting);
    for (const stack of [...open].reverse()) await stack.disposeAsync().catch(() => {});
    Deno.exit(130);
  });
}
