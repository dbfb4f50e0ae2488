/** A TCP address in front of the database, which leads to whichever server is the primary. */
export interface Route extends AsyncDisposable {
  readonly port: number;
  /** Where connections go from now on; those that are open stay. */
  to: number;
  /** Resets all connections, or one by chance. */
  cut(which?: "all" | "one"): void;
  /** Lets no byte pass on some of the connections for a while, in either direction: for both ends the other one has stopped. */
  freeze(milliseconds: number, share: number): void;
}

/**
 * Opens a route.
 *
 * @param to The port of the primary.
 * @returns The route.
 */
export function openRoute(to: number): Route {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Pair>();
  const accept = async () => {
    for await (const near of listener) {
      const pair: Pair = { near, far: undefined, frozenUntil: 0 };
      open.add(pair);
      connect(pair, route.to).catch(() => {}).finally(() => {
        open.delete(pair);
        close(pair);
      });
    }
  };
  const route: Route = {
    port: listener.addr.port,
    to,
    cut(which = "all") {
      const pairs = [...open];
      const cut = which === "all" ? pairs : [pairs[Math.floor(Math.random() * pairs.length)]];
      for (const pair of cut) if (pair) close(pair);
    },
    freeze(milliseconds, share) {
      for (const pair of open) {
        if (Math.random() < share) pair.frozenUntil = performance.now() + milliseconds;
      }
    },
    // deno-lint-ignore require-await
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const pair of open) close(pair);
    },
  };
  accept().catch(() => {});
  return route;
}

interface Pair {
  near: Deno.TcpConn;
  far: Deno.TcpConn | undefined;
  frozenUntil: number;
}

async function connect(pair: Pair, port: number): Promise<void> {
  pair.far = await Deno.connect({ hostname: "127.0.0.1", port });
  pair.near.setNoDelay();
  pair.far.setNoDelay();
  await Promise.race([pass(pair, pair.near, pair.far), pass(pair, pair.far, pair.near)]);
}

async function pass(pair: Pair, from: Deno.Conn, to: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(65536);
  for (let read = await from.read(buffer); read !== null; read = await from.read(buffer)) {
    for (let wait; (wait = pair.frozenUntil - performance.now()) > 0;) {
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
    for (let sent = 0; sent < read;) sent += await to.write(buffer.subarray(sent, read));
  }
}

function close({ near, far }: Pair): void {
  for (const end of [near, far]) {
    try {
      end?.close();
    } catch {
      // it is closed already
    }
  }
}
