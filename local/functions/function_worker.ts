/**
 * Runs before an edge function in its process. The platform decides where a function listens, so `Deno.serve` here
 * takes any free port and tells the parent process, whose end is also the function's end.
 *
 * @module
 */

const serve = Deno.serve;
let server: Deno.HttpServer | undefined;

Object.defineProperty(Deno, "serve", {
  value: (...args: (Deno.ServeHandler | { handler?: Deno.ServeHandler })[]) => {
    const handler = args.find((arg) => typeof arg === "function") ??
      args.map((arg) => (arg as { handler?: Deno.ServeHandler }).handler).find(Boolean);
    if (!handler) throw new TypeError("Deno.serve needs a handler");
    server = serve({ hostname: "127.0.0.1", port: 0, onListen: announce }, handler);
    return server;
  },
});

// The platform's promise to let work finish after the answer was sent. Here a process lives on anyway.
Object.defineProperty(globalThis, "EdgeRuntime", {
  value: { waitUntil: (work: Promise<unknown>) => work },
});

function announce({ port }: Deno.NetAddr): void {
  console.log(`\0listening ${port}`);
  endWithParent(); // not earlier: the function begins when nothing that began before it is pending
}

async function endWithParent(): Promise<void> {
  for await (const _ of Deno.stdin.readable);
  await server?.shutdown();
  Deno.exit();
}
