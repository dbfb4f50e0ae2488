import { debounce } from "@std/async/debounce";
import { TextLineStream } from "@std/streams/text-line-stream";
import { join, relative, sep } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import type { FunctionConfig } from "../config.ts";
import { hasProxy, PROXY } from "../environment.ts";

/** Which functions to run, and with what. */
export interface EdgeFunctionsOptions {
  /** The project's `supabase/functions`. */
  folder: string;
  /** Their blocks in config.toml, by name. */
  config?: Record<string, FunctionConfig>;
  /** The environment variables that the platform gives to every function. */
  env: Record<string, string>;
  /** Serve a function anew when a file of it, or one that it may share, changes. */
  watch: boolean;
  /** Called with each line that a function prints. */
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
 * it is deployed. Folders that begin with `_` or `.` are no functions, nor are those that config.toml turns off.
 *
 * @param options See {@linkcode EdgeFunctionsOptions}.
 */
export function runEdgeFunctions(options: EdgeFunctionsOptions): EdgeFunctions {
  const running = new Map<string, EdgeFunction>();
  let stopped = false;
  const watcher = options.watch ? watchFolder(options.folder) : undefined;

  async function update(affected: (name: string) => boolean): Promise<void> {
    const names = (await functionNames(options.folder))
      .filter((name) => options.config?.[name]?.enabled ?? true);
    if (stopped) return;
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
    let changed = new Set<string>();
    let last = Promise.resolve();
    const soon = debounce(() => { // one save of an editor makes several events
      const parts = [...changed];
      changed = new Set();
      const shared = parts.some((part) => !isFunctionName(part));
      last = last.then(() => update((name) => shared || parts.includes(name)));
    }, 50);
    for await (const { kind, paths } of watcher) {
      if (kind === "access") continue;
      for (const path of paths) changed.add(relative(options.folder, path).split(sep)[0]!);
      soon();
    }
    soon.clear();
  }

  const ready = update(() => true);
  if (watcher) ready.then(() => follow(watcher));
  return {
    ready,
    origin: (name) => running.get(name)?.origin,
    async stop() {
      stopped = true;
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
    const module = await this.#module();
    if (hasProxy()) await download(module);
    if (this.#stopped) return;
    const before = this.#process;
    const process = this.#process = this.#spawn(module);
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

  /** How Deno loads the function: with the import map that config.toml names, from its file. */
  async #module(): Promise<Module> {
    const { folder, config } = this.#options;
    const {
      entrypoint = `functions/${this.#name}/index.ts`,
      import_map = `functions/${this.#name}/deno.json`,
    } = config?.[this.#name] ?? {};
    const map = join(folder, "..", import_map);
    return {
      flags: [
        "--quiet",
        "--no-lock",
        "--node-modules-dir=none",
        await exists(map) ? `--config=${map}` : "--no-config",
      ],
      url: pathToFileURL(join(folder, "..", entrypoint)).href,
    };
  }

  #spawn({ flags, url }: Module): Deno.ChildProcess {
    const args = [
      "run",
      ...flags,
      "--no-prompt",
      `--allow-read=${this.#options.folder}`, // to import it: its address is known only here
      "--allow-net",
      "--allow-env",
      "--unstable-no-legacy-abort", // a request's signal is about callers who hang up, as on the platform
      new URL("./function_worker.ts", import.meta.url).href,
      url,
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
        const lines: ReadableStream<string> = stream.pipeThrough(new TextDecoderStream() as Decoder)
          .pipeThrough(new TextLineStream());
        for await (const line of lines) {
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

interface Module {
  flags: string[];
  url: string;
}

type Decoder = ReadableWritablePair<string, Uint8Array>;

/** Behind a proxy, what a function imports is fetched before it runs, as it does not know of the proxy itself. */
async function download({ flags, url }: Module): Promise<void> {
  const proxies = Object.entries(Deno.env.toObject()).filter(([name]) => PROXY.test(name));
  await new Deno.Command(Deno.execPath(), {
    args: ["cache", ...flags, url],
    env: { ...denoEnv(), ...Object.fromEntries(proxies) },
    clearEnv: true,
    stdout: "null",
    stderr: "null", // the function itself says what is missing
    signal: AbortSignal.timeout(BOOT_MS),
  }).output();
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

function exists(path: string): Promise<boolean> {
  return Deno.stat(path).then(() => true, () => false);
}

/** What Deno itself reads: where its cache is, where packages come from and whom it trusts there. */
function denoEnv(): Record<string, string> {
  const wanted =
    /^(PATH|HOME|XDG_CACHE_HOME|DENO_(DIR|CERT|TLS_CA_STORE)|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|npm_config_registry)$/i;
  const present = Object.entries(Deno.env.toObject()).filter(([name]) => wanted.test(name));
  return { ...Object.fromEntries(present), NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
}
