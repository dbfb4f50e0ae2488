// Assertions that need nothing of Deno: the suite also runs in Node and in a browser.

/** How an observed value is shown in a message. */
function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/**
 * Fails unless two values are the same (`Object.is`), or are lists of the same values.
 *
 * @param actual What was observed.
 * @param expected What the specification says.
 * @param what What it is, for the message.
 */
export function same(actual: unknown, expected: unknown, what: string): void {
  const equal = Array.isArray(actual) && Array.isArray(expected)
    ? actual.length === expected.length && actual.every((item, i) => Object.is(item, expected[i]))
    : Object.is(actual, expected);
  if (!equal) throw new Error(`${what}: got ${shown(actual)}, not ${shown(expected)}`);
}

/**
 * Waits for a promise to reject.
 *
 * @param promise What has to reject.
 * @param what What it is, for the message.
 * @returns What it rejected with, in an object: a reason may have a method `then`, and must not be asked for it.
 */
export async function rejection(promise: unknown, what: string): Promise<{ reason: unknown }> {
  same(promise instanceof Promise, true, `${what}: the result is a promise`);
  try {
    await promise;
  } catch (reason) {
    return { reason };
  }
  throw new Error(`${what}: fulfilled, but had to reject`);
}

/**
 * Fails unless the promise rejects with this very value.
 *
 * @param promise What has to reject.
 * @param reason With what.
 * @param what What it is, for the message.
 */
export async function rejects(promise: unknown, reason: unknown, what: string): Promise<void> {
  same((await rejection(promise, what)).reason, reason, `${what}: reason`);
}

/**
 * Fails unless the promise rejects with a TypeError.
 *
 * @param promise What has to reject.
 * @param what What it is, for the message.
 */
export async function typeError(promise: unknown, what: string): Promise<void> {
  const { reason } = await rejection(promise, what);
  same(reason instanceof TypeError, true, `${what}: ${shown(reason)} is a TypeError`);
}

/**
 * Fails unless the promise rejects with a DOMException of this name.
 *
 * @param promise What has to reject.
 * @param name Name of the exception.
 * @param what What it is, for the message.
 */
export async function domException(promise: unknown, name: string, what: string): Promise<void> {
  const { reason } = await rejection(promise, what) as { reason: DOMException };
  same(reason?.name, name, `${what}: name of the exception (${shown(reason)})`);
  // by its constructor, as an own class that only calls itself so would not do
  same(reason.constructor, DOMException, `${what}: class of the exception`);
}
