/** A lock, as a callback gets it. */
export interface TestedLock {
  readonly name: string;
  readonly mode: string;
}

/** One entry of a snapshot. */
export interface TestedInfo {
  readonly name?: string;
  readonly mode?: string;
  readonly clientId?: string;
}

/** What `query()` gives. */
export interface TestedSnapshot {
  readonly held?: TestedInfo[];
  readonly pending?: TestedInfo[];
}

/**
 * What is tested: a LockManager. The arguments are loose, as wrong ones are part of the suite. The value of a callback
 * is the value of the request.
 */
export interface TestedManager {
  // deno-lint-ignore no-explicit-any
  request(...args: any[]): Promise<any>;
  query(): Promise<TestedSnapshot>;
}

/** What one case of the suite gets to work with. */
export interface Surroundings {
  /** The manager under test. */
  locks: TestedManager;
  /** Names that no other case uses, and that every manager takes. */
  a: string;
  b: string;
}

/** One sentence of the specification, as code. */
export interface Case {
  /** The sentence. */
  name: string;
  run(surroundings: Surroundings): Promise<void>;
}

/** A promise that others settle. */
export interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

/**
 * Makes a promise that others settle. (`Promise.withResolvers` is missing in Node 20.)
 *
 * @returns The promise, and what settles it.
 */
export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((ok, bad) => {
    resolve = ok;
    reject = bad;
  });
  return { promise, resolve, reject };
}

/**
 * Takes a lock and holds it until it is let go.
 *
 * @param locks The manager.
 * @param name Name of the lock.
 * @param options Options of the request.
 * @returns When it was granted, how to let go, and the request's own promise.
 */
export function hold(locks: TestedManager, name: string, options: object = {}): {
  granted: Promise<TestedLock>;
  release(value?: unknown): void;
  request: Promise<unknown>;
} {
  const granted = deferred<TestedLock>();
  const end = deferred<unknown>();
  const request = locks.request(name, options, (lock: TestedLock) => {
    granted.resolve(lock);
    return end.promise;
  });
  return { granted: granted.promise, release: (value) => end.resolve(value), request };
}
