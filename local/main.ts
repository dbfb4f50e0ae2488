import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { setTimeout as delay } from "node:timers/promises";
import { DataFolder } from "./data_folder.ts";
import { hasProxy } from "./environment.ts";
import { StackError } from "./stack_error.ts";
import { type Stack, startStack } from "./stack.ts";

const HELP = `Runs Holdfast on a Supabase stack of its own, without Docker.

  deno task start    start the stack and stay until Ctrl-C
    --port N         the port of the stack's one address, 0 = any free one (default: api.port of config.toml)
    --db-port N      the port of the database, 0 = any free one (default: db.port of config.toml)
    --db-url URL     use this PostgreSQL (as a superuser) instead of the embedded one
    --fresh          forget all data and begin anew
  deno task status   print address and keys of the stack that runs, as NAME="value" lines
  deno task stop     end the stack that runs

All take
    --data DIR       the folder that keeps the stack's data (default .holdfast in the checkout)
    --help           this text`;

/** The words after the command were wrong. */
class UsageError extends Error {}

const PROJECT = resolve(import.meta.dirname!, "..");

async function start(data: string, flags: Flags): Promise<void> {
  const interrupt = new AbortController();
  const interrupted = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      Deno.addSignalListener(signal, () => {
        if (interrupt.signal.aborted) Deno.exit(130); // who asks twice does not want to wait
        interrupt.abort(new StackError("Interrupted."));
        resolve();
      });
    }
  });
  const begun = performance.now();
  const stack = await startStack({
    project: PROJECT,
    data,
    fresh: flags.fresh ?? false,
    port: port(flags.port, "--port"),
    dbPort: port(flags["db-port"], "--db-port"),
    ...(flags["db-url"] === undefined ? {} : { dbUrl: flags["db-url"] }),
    watch: true,
    signal: interrupt.signal,
    onProgress: (message) => console.log(`· ${message}`),
    onFunctionLog: (name, line) => console.log(`[${name}] ${line}`),
  });
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(`
Holdfast runs (started in ${seconds} s). Ctrl-C ends it.

  URL              ${stack.url}
  Publishable key  ${stack.publishableKey}
  Secret key       ${stack.secretKey}
  Database         ${stack.dbUrl}

Acquire a lock, and release it (a lock_id of your own makes both safe to repeat):

${curl(stack, "lock-acquire", { ...EXAMPLE, lock_holder_user_id: "worker-1" })}

${curl(stack, "lock-release", EXAMPLE)}

What else there is: README.md and docs/. Every field and answer: docs/reference/http.md.
`);
  await interrupted;
  console.log("· ending");
  await stack.stop();
}

/** One acquisition of a lock of the video in supabase/seed.sql. */
const EXAMPLE = {
  video_id: "00000000-0000-4000-8000-000000000101",
  database_name: "layout",
  lock_id: crypto.randomUUID(),
};

/** A command for the shell that calls a function. */
function curl({ url, secretKey }: Stack, name: string, body: Record<string, string>): string {
  return `  curl -s${hasProxy() ? " --noproxy '*'" : ""} ${url}/functions/v1/${name} \\
    -H 'apikey: ${secretKey}' -H 'content-type: application/json' \\
    -d '${JSON.stringify(body)}'`;
}

async function status(data: string): Promise<void> {
  const state = await DataFolder.state(data);
  if (!state) throw new StackError(`No stack runs on ${data}.`);
  const values = {
    SUPABASE_URL: state.url,
    SUPABASE_PUBLISHABLE_KEY: state.publishableKey,
    SUPABASE_SECRET_KEY: state.secretKey,
    SUPABASE_DB_URL: state.dbUrl,
  };
  for (const [name, value] of Object.entries(values)) console.log(`${name}="${value}"`);
}

async function stop(data: string): Promise<void> {
  const state = await DataFolder.state(data);
  if (!state) throw new StackError(`No stack runs on ${data}.`);
  Deno.kill(state.pid, "SIGTERM");
  for (const deadline = Date.now() + STOP_MS; await DataFolder.taken(data); await delay(50)) {
    if (Date.now() > deadline) {
      throw new StackError(`The stack (process ${state.pid}) does not end.`);
    }
  }
  console.log(`The stack at ${state.url} has ended.`);
}

const STOP_MS = 30_000;

const COMMANDS = new Map([["start", start], ["status", status], ["stop", stop]]);

const COMMON = { data: { type: "string" }, help: { type: "boolean", short: "h" } } as const;
const START = {
  port: { type: "string" },
  "db-port": { type: "string" },
  "db-url": { type: "string" },
  fresh: { type: "boolean" },
} as const;

type Flags = ReturnType<typeof parse>;

function parse(command: string, args: string[]) {
  try {
    const options = command === "start" ? { ...COMMON, ...START } : COMMON;
    return parseArgs({ args, options: options as typeof COMMON & typeof START }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function port(text: string | undefined, flag: string): number | "config" {
  if (text === undefined) return "config";
  if (/^\d{1,5}$/.test(text) && Number(text) < 65536) return Number(text);
  throw new UsageError(`${flag} takes a port number from 0 to 65535, not '${text}'.`);
}

async function main([command = "--help", ...args]: string[]): Promise<void> {
  if (command === "--help" || command === "-h") return console.log(HELP);
  const run = COMMANDS.get(command);
  if (!run) throw new UsageError(`There is no command '${command}'.`);
  const flags = parse(command, args);
  if (flags.help) return console.log(HELP);
  await run(resolve(flags.data ?? `${PROJECT}/.holdfast`), flags);
}

if (import.meta.main) {
  try {
    await main(Deno.args);
    Deno.exit(0);
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`${error.message}\nSee --help.`);
      Deno.exit(2);
    }
    if (error instanceof StackError) {
      console.error(error.message);
      Deno.exit(1);
    }
    throw error;
  }
}
