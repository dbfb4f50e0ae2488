import { setTimeout as delay } from "node:timers/promises";
// @ts-types="@types/pg"
import pg from "pg";
import { jsonTypes } from "./json_types.ts";

/** A picture of the catalog that follows its changes. */
export interface SchemaCache<T> {
  readonly current: T;
  /** Reads the catalog again, once for all who ask in the meantime. */
  reload(): Promise<T>;
  close(): Promise<void>;
}

/**
 * Keeps a picture of the catalog as PostgREST does: read at the start, and again whenever the database says
 * `notify pgrst` (after each change of the schema) or has come back from being away.
 *
 * @param url A connection that sees the whole catalog.
 * @param read Takes the picture.
 * @returns The cache, filled.
 * @throws When the first reading fails.
 */
export async function schemaCache<T>(
  url: string,
  read: (client: pg.Client) => Promise<T>,
): Promise<SchemaCache<T>> {
  let closed = false;
  let client = await connect();
  let current = await read(client);

  async function connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: url, types: jsonTypes });
    client.on("error", () => {}); // told by `end` as well
    client.on("notification", () => reload().catch(() => {}));
    try {
      await client.connect();
      await client.query("listen pgrst");
    } catch (error) {
      await client.end().catch(() => {});
      throw error;
    }
    client.on("end", () => reconnect()); // only for one that had come, or each attempt would start another loop
    return client;
  }

  async function reconnect(): Promise<void> {
    while (!closed) {
      try {
        client = await connect();
        if (closed) return await client.end();
        await reload();
        return;
      } catch {
        await delay(100);
      }
    }
  }

  // A change that comes while one reading is under way may be too late for it, so that one more follows.
  let last: Promise<unknown> = Promise.resolve();
  let waiting: Promise<T> | undefined;
  function reload(): Promise<T> {
    last = waiting ??= last.catch(() => {}).then(async () => {
      waiting = undefined;
      return current = await read(client);
    });
    return last as Promise<T>;
  }

  return {
    get current() {
      return current;
    },
    reload,
    async close() {
      closed = true;
      await client.end();
    },
  };
}
