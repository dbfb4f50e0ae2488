const open = new Set<AsyncDisposableStack>();
const starting = new Set<Promise<unknown>>();

/**
 * A stack for what is started, which ends also when the bench is interrupted.
 *
 * @param stack One that has something already; default: an empty one.
 */
export function ours(stack = new AsyncDisposableStack()): AsyncDisposableStack {
  open.add(stack);
  stack.defer(() => void open.delete(stack));
  return stack;
}

/**
 * Has an interruption wait until something has started, because only then it can be ended whole.
 *
 * @param start Its start.
 */
export async function whole<T>(start: Promise<T>): Promise<T> {
  starting.add(start);
  return await start.finally(() => starting.delete(start));
}

let interrupted = false;

/**
 * Has what fails because it was interrupted not end the process before everything is ended.
 *
 * @param work All that the bench does.
 */
export async function unlessInterrupted(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (interrupted) await new Promise(() => {});
    throw error;
  }
}
globalThis.addEventListener("unhandledrejection", (event) => interrupted && event.preventDefault());

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, async () => {
    interrupted = true;
    await Promise.allSettled(starting);
    // what begins meanwhile is ended, too
    for (let stacks = [...open]; stacks.length > 0; stacks = [...open]) {
      for (const stack of stacks.reverse()) {
        await stack.disposeAsync().catch(() => {});
        open.delete(stack);
      }
    }
    Deno.exit(130);
  });
}
