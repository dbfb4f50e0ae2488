import { pgDump } from "@electric-sql/pglite-tools/pg_dump";
import { BYTES, LENGTH } from "./pg_dump_socket.ts";

/**
 * Runs PostgreSQL's own pg_dump, without one on the machine: it is compiled to WebAssembly, for PGlite, and talks to a
 * real server here. It waits for each answer in place, so the socket is another thread's.
 *
 * @param url The database to dump.
 * @param args Options of pg_dump.
 * @returns The dump, as SQL.
 */
export async function dump(url: string, args: string[]): Promise<string> {
  const { hostname, port } = new URL(url);
  const shared = new SharedArrayBuffer(BYTES + (16 << 20));
  const length = new Int32Array(shared, LENGTH, 1);
  const socket = new Worker(new URL("./pg_dump_socket.ts", import.meta.url), { type: "module" });
  try {
    const connected = new Promise((resolve) => socket.onmessage = resolve);
    socket.postMessage({ hostname, port: Number(port), shared });
    await connected;
    const server = {
      execProtocolRawStream(
        message: Uint8Array,
        { onRawData }: { onRawData(bytes: Uint8Array): void },
      ) {
        Atomics.store(length, 0, -1);
        socket.postMessage(message.slice());
        Atomics.wait(length, 0, -1);
        onRawData(new Uint8Array(shared, BYTES, Atomics.load(length, 0)).slice());
      },
      query: () => Promise.resolve({ rows: [{ search_path: "" }] }),
      exec: () => Promise.resolve([]),
    };
    const file = await pgDump({
      pg: server as unknown as Parameters<typeof pgDump>[0]["pg"],
      args: [`--dbname=${url}`, ...args],
    });
    return await file.text();
  } finally {
    socket.terminate();
  }
}
