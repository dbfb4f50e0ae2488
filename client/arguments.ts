import { notSupported } from "./errors.ts";
import type { LockOptions } from "./types.ts";

/**
 * Converts what `request` was called with, in the order that Web IDL gives, so that a wrong call is refused here just as
 * `navigator.locks` refuses it.
 *
 * @param args The arguments, as they came.
 * @returns The arguments in their places.
 * @throws {TypeError} Where one cannot be converted.
 */
export function readArguments<Name, Callback>(
  args: readonly unknown[],
): [name: Name, options: LockOptions, callback: Callback] {
  if (args.length < 2) throw new TypeError("Needs a name and a callback");
  const [name, given, callback] = args.length > 2 ? args : [args[0], undefined, args[1]];
  const options = readOptions(given);
  if (typeof callback !== "function") throw new TypeError("The callback is no function");
  return [name as Name, options, callback as Callback];
}

/**
 * Converts the options alone.
 *
 * @param given What was given as options.
 * @returns A copy.
 * @throws {TypeError} Where it cannot be converted.
 */
export function readOptions(given: unknown): LockOptions {
  if (given != null && Object(given) !== given) throw new TypeError("The options are no object");
  // read once each, in alphabetical order, as Web IDL does
  const { ifAvailable, mode: word = "exclusive", signal, steal, ...others } =
    (given ?? {}) as LockOptions;
  const mode = String(word) as "exclusive" | "shared";
  if (mode !== "exclusive" && mode !== "shared") throw new TypeError(`No mode: ${mode}`);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError("The signal is no AbortSignal");
  }
  return { ...others, ifAvailable: !!ifAvailable, mode, signal, steal: !!steal };
}

/**
 * Judges what goes together, in the order that the specification of Web Locks gives.
 *
 * @param options Options, converted.
 * @throws {DOMException} NotSupportedError where they do not; the signal's reason where it has aborted.
 * @throws {TypeError} Where `ttlSeconds` is not a finite number.
 */
export function judge({ ifAvailable, mode, signal, steal, ttlSeconds = 1 }: LockOptions): void {
  // JSON has no such number: the service would take its own default
  if (!isFinite(ttlSeconds)) throw new TypeError("ttlSeconds is no number");
  if (steal && ifAvailable) throw notSupported("steal excludes ifAvailable");
  if (mode === "shared") throw notSupported("No shared locks here");
  if (signal && (steal || ifAvailable)) {
    throw notSupported("signal excludes steal and ifAvailable");
  }
  signal?.throwIfAborted();
}
