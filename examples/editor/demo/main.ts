/**
 * Shows the editor: a stack with three users and a worker, and the page.
 *
 *     deno task demo [--port N] [--no-worker]
 *     deno task demo --dev     serves the page as it is written, for who changes it
 *
 * It starts an embedded stack, which forgets everything at the end; or uses the one that the environment names by
 * SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, SUPABASE_SECRET_KEY and SUPABASE_DB_URL, and cleans up there. Ctrl-C ends all.
 *
 * @module
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { build, createServer, preview } from "vite";
import { isolateEnvironment } from "../../../local/environment.ts";
import { startStack } from "../../../local/stack.ts";
import { StackError } from "../../../local/stack_error.ts";
import { seed, type Stack, unseed } from "./seed.ts";
import { work } from "./worker.ts";

const { values: flags } = parseArgs({
  args: Deno.args,
  options: {
    port: { type: "string", default: "5173" },
    "no-worker": { type: "boolean" },
    dev: { type: "boolean" },
  },
});

const interrupt = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.addSignalListener(signal, () => {
    if (interrupt.signal.aborted) Deno.exit(130); // asked twice
    interrupt.abort(new StackError("Interrupted."));
  });
}

/** The stack that the environment names, or one of its own; ends with `ending`. */
async function stackFor(ending: AsyncDisposableStack): Promise<Stack> {
  const named = (name: string) => Deno.env.get(`SUPABASE_${name}`)!;
  if (named("URL")) {
    return {
      url: named("URL"),
      publishableKey: named("PUBLISHABLE_KEY"),
      secretKey: named("SECRET_KEY"),
      dbUrl: named("DB_URL"),
    };
  }
  const onProgress = (message: string) => console.log(`· ${message}`);
  const stack = await startStack({ signal: interrupt.signal, onProgress });
  ending.defer(() => stack.stop());
  return stack;
}

/** The page, built, or as it is written. */
async function servePage(stack: Stack, ending: AsyncDisposableStack): Promise<string> {
  // what `.env.local` would say in a project of its own
  Deno.env.set("VITE_SUPABASE_URL", stack.url);
  Deno.env.set("VITE_SUPABASE_PUBLISHABLE_KEY", stack.publishableKey);
  const folder = await Deno.makeTempDir({ prefix: "holdfast-vite-" });
  ending.defer(() => Deno.remove(folder, { recursive: true }));
  const address = { host: "127.0.0.1", port: Number(flags.port) };
  const config = {
    configFile: `${import.meta.dirname}/../vite.config.ts`,
    root: `${import.meta.dirname}/..`,
    cacheDir: `${folder}/cache`,
    logLevel: "warn" as const,
    build: { outDir: `${folder}/page`, emptyOutDir: true, chunkSizeWarningLimit: 1000 },
    server: address,
    preview: address,
  };
  let server;
  if (flags.dev) server = await (await createServer(config)).listen();
  else {
    await build(config);
    server = await preview(config);
  }
  ending.defer(() => server.close());
  // Vite would end the process at once, before the stack has ended
  process.removeAllListeners("SIGTERM");
  process.stdin.removeAllListeners("end");
  return server.resolvedUrls!.local[0]!;
}

async function demo(): Promise<void> {
  isolateEnvironment();
  const begun = performance.now();
  await using ending = new AsyncDisposableStack();
  const stack = await stackFor(ending);
  interrupt.signal.throwIfAborted();
  console.log("· three people, six videos");
  await seed(stack);
  if (Deno.env.has("SUPABASE_URL")) ending.defer(() => unseed(stack)); // its own one forgets all
  if (!flags["no-worker"]) {
    const working = work(stack, interrupt.signal);
    ending.defer(() => working);
  }
  const url = await servePage(stack, ending);
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(`
The editor runs (started in ${seconds} s). Ctrl-C ends it.

  Anna          ${url}?as=anna
  Ben, admin    ${url}?as=ben
  Cleo          ${url}?as=cleo

Open two of them side by side, and edit the same video.
`);
  if (interrupt.signal.aborted) return;
  await new Promise((resolve) => interrupt.signal.addEventListener("abort", resolve));
  console.log("· ending");
}

try {
  await demo();
  Deno.exit(0);
} catch (error) {
  if (!(error instanceof StackError)) throw error;
  console.error(error.message);
  Deno.exit(1);
}
