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
  let client!: pg.Client;
  let ended!: Promise<unknown>;
  await connect();
  let current = await read(client);
  const following = follow();

  async function connect(): Promise<void> {
    const next = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: 10_000,
      application_name: "schema-cache",
      types: jsonTypes,
    });
    next.on("error", () => {}); // `end` reports it as well
    next.on("notification", () => reload().catch(() => {}));
    const end = new Promise((resolve) => next.once("end", resolve));
    try {
      await next.connect();
      await next.query("listen pgrst");
    } catch (error) {
      await next.end().catch(() => {});
      throw error;
    }
    [client, ended] = [next, end];
  }

  /** One loop, and one connection at a time, however often and wherever it breaks. */
  async function follow(): Promise<void> {
    while (!closed) {
      await ended;
      if (closed) return;
      try {
        await connect();
        await reload();
      } catch {
        await client.end();
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
      await following;
      await client.end(); // one that had just come
    },
  };
}
