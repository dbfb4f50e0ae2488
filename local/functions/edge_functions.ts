import { join, relative, sep } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { pathToFileURL } from "node:url";

/** Which functions to run, and what they are told. */
export interface EdgeFunctionsOptions {
  /** The project's `supabase/functions`. */
  folder: string;
  /** The environment variables that the platform gives to every function. */
  env: Record<string, string>;
  /** Serve a function anew when a file of it, or one that it may share, changes. */
  watch: boolean;
  /** Told each line that a function prints. */
  onLog: (name: string, line: string) => void;
}

/** The running edge functions of a project. */
export interface EdgeFunctions {
  /** Settled when every function answers or has said why it does not. */
  ready: Promise<void>;
  /** Where a function answers; `null` while it does not, `undefined` when there is none of that name. */
  origin(name: string): string | null | undefined;
  stop(): Promise<void>;
}

/**
 * Runs each folder of `supabase/functions` with an `index.ts` as a process of its own, with its own `deno.json`, as
 * it is deployed. Folders that begin with `_` or `.` are no functions.
 *
 * @param options See {@linkcode EdgeFunctionsOptions}.
 */
export function runEdgeFunctions(options: EdgeFunctionsOptions): EdgeFunctions {
  const running = new Map<string, EdgeFunction>();
  const watcher = options.watch ? watchFolder(options.folder) : undefined;

  async function update(affected: (name: string) => boolean): Promise<void> {
    const names = await functionNames(options.folder);
    const gone = [...running.keys()].filter((name) => !names.includes(name));
    for (const name of names) {
      if (!running.has(name)) running.set(name, new EdgeFunction(name, options));
    }
    await Promise.all([
      ...gone.map((name) => {
        const fn = running.get(name)!;
        running.delete(name);
        return fn.stop();
      }),
      ...names.filter(affected).map((name) => running.get(name)!.restart()),
    ]);
  }

  async function follow(watcher: Deno.FsWatcher): Promise<void> {
    for await (const changed of batches(watcher)) {
      const parts = changed.map((path) => relative(options.folder, path).split(sep)[0]!);
      const shared = parts.some((part) => !isFunctionName(part));
      await update((name) => shared || parts.includes(name));
    }
  }

  const ready = update(() => true);
  if (watcher) ready.then(() => follow(watcher));
  return {
    ready,
    origin: (name) => running.get(name)?.origin,
    async stop() {
      watcher?.close();
      await Promise.all([...running.values()].map((fn) => fn.stop()));
    },
  };
}

/** One function: the process that serves it now. */
class EdgeFunction {
  origin: string | null = null;
  readonly #name: string;
  readonly #options: EdgeFunctionsOptions;
  #process: Deno.ChildProcess | undefined;
  #stopped = false;

  constructor(name: string, options: EdgeFunctionsOptions) {
    this.#name = name;
    this.#options = options;
  }

  /** Serves the function as it is on disk now. Until that answers, the one before does. */
  async restart(): Promise<void> {
    const before = this.#process;
    const process = this.#process = this.#spawn(await exists(join(this.#folder, "deno.json")));
    const port = await Promise.race([
      this.#listening(process),
      delay(BOOT_MS, undefined, { ref: false }),
    ]);
    if (this.#process !== process) return; // restarted or stopped in the meantime
    this.origin = port ? `http://127.0.0.1:${port}` : null;
    if (before) await end(before);
    process.status.then(({ code, signal }) => this.#ended(process, signal ?? `exit code ${code}`));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.origin = null;
    const process = this.#process;
    this.#process = undefined;
    if (process) await end(process);
  }

  get #folder(): string {
    return join(this.#options.folder, this.#name);
  }

  #spawn(hasConfig: boolean): Deno.ChildProcess {
    const args = [
      "run",
      "--quiet",
      "--no-prompt",
      "--no-lock",
      "--node-modules-dir=none",
      `--allow-read=${this.#options.folder}`, // to import it: its address is known only here
      "--allow-net",
      "--allow-env",
      "--unstable-no-legacy-abort", // a request's signal is about callers who hang up, as on the platform
      hasConfig ? `--config=${join(this.#folder, "deno.json")}` : "--no-config",
      new URL("./function_worker.ts", import.meta.url).href,
      pathToFileURL(join(this.#folder, "index.ts")).href,
    ];
    return new Deno.Command(Deno.execPath(), {
      args,
      env: { ...denoEnv(), ...this.#options.env, SUPABASE_FUNCTION_SLUG: this.#name },
      clearEnv: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true, // Ctrl-C in the terminal is for the stack
    }).spawn();
  }

  /** Passes on what the process prints; gives the port that it listens on, or nothing when it ends without. */
  #listening(process: Deno.ChildProcess): Promise<number | undefined> {
    return new Promise((resolve) => {
      const pass = async (stream: ReadableStream<Uint8Array>) => {
        for await (const line of lines(stream)) {
          const [, port] = /^\0listening (\d+)$/.exec(line) ?? [];
          if (port) resolve(Number(port));
          else this.#options.onLog(this.#name, line);
        }
      };
      Promise.all([pass(process.stdout), pass(process.stderr)]).then(() => resolve(undefined));
    });
  }

  async #ended(process: Deno.ChildProcess, how: string): Promise<void> {
    if (this.#process !== process || this.#stopped) return;
    const served = this.origin !== null;
    this.origin = null;
    this.#options.onLog(this.#name, `ended (${how})`);
    if (!served) return; // it never came up; the next change of its files is its next chance
    await delay(500);
    if (this.#process === process && !this.#stopped) await this.restart();
  }
}

/** A first start downloads what the function imports. */
const BOOT_MS = 60_000;

/** Lets a process finish what it is doing, for a while. */
async function end(process: Deno.ChildProcess): Promise<void> {
  await process.stdin.close().catch(() => {});
  const timer = setTimeout(() => {
    try {
      process.kill("SIGKILL");
    } catch {
      // it has ended
    }
  }, 2_000);
  await process.status;
  clearTimeout(timer);
}

async function functionNames(folder: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      if (isDirectory && isFunctionName(name) && await exists(join(folder, name, "index.ts"))) {
        names.push(name);
      }
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
}

function isFunctionName(name: string): boolean {
  return !/^[._]/.test(name);
}

function watchFolder(folder: string): Deno.FsWatcher | undefined {
  try {
    return Deno.watchFs(folder);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The paths that changed, gathered while one save of an editor makes several events. */
async function* batches(watcher: Deno.FsWatcher): AsyncGenerator<string[]> {
  let paths: string[] = [];
  let quiet = Promise.withResolvers<void>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const gather = async () => {
    for await (const event of watcher) {
      if (event.kind === "access") continue;
      paths.push(...event.paths);
      clearTimeout(timer);
      timer = setTimeout(() => quiet.resolve(), 50);
    }
    quiet.resolve();
    return true;
  };
  let closed = false;
  gather().then(() => closed = true);
  while (!closed) {
    await quiet.promise;
    const batch = paths;
    paths = [];
    quiet = Promise.withResolvers();
    if (batch.length > 0) yield batch;
  }
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (
    const text of stream.pipeThrough(
      new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>,
    )
  ) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
  if (rest) yield rest;
}

function exists(path: string): Promise<boolean> {
  return Deno.stat(path).then(() => true, () => false);
}

/** What Deno itself reads: where its cache is, how it reaches the package registry and whom it trusts there. */
function denoEnv(): Record<string, string> {
  const wanted =
    /^(PATH|HOME|XDG_CACHE_HOME|DENO_(DIR|CERT|TLS_CA_STORE)|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS)$/;
  const network = /^(npm_config_registry|https?_proxy|no_proxy)$/i;
  const present = Object.entries(Deno.env.toObject()).filter(([name]) =>
    wanted.test(name) || network.test(name)
  );
  return { ...Object.fromEntries(present), NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
}
