/**
 * Serves an edge function, a module that says `export default { fetch }`, in its own process: on any free port, which
 * it reports to the parent process, whose end is also the function's end. The first argument is the module.
 *
 * `deno serve` would take the same module, but would not end with the parent.
 *
 * @module
 */

let finish = () => Promise.resolve();
endWithParent(); // also while the function still loads

const { default: served } = await import(Deno.args[0]!);
if (typeof served?.fetch !== "function") {
  throw new TypeError("The module of an edge function has to say: export default { fetch }");
}
const server = Deno.serve({
  hostname: "127.0.0.1",
  port: 0,
  onListen: ({ port }) => console.log(`\0listening ${port}`),
}, (request, info) => served.fetch(request, info));

finish = () => server.shutdown();

async function endWithParent(): Promise<void> {
  for await (const _ of Deno.stdin.readable);
  await finish();
  Deno.exit();
}
