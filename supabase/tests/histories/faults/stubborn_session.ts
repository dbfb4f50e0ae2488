// @ts-types="@types/pg"
import pg from "pg";
import type postgres from "postgres";
import type { Session } from "../../support/race.ts";

/** How a session comes to the database. */
export interface SessionOptions {
  url: string;
  /** What the caller's token says; none for the owner. */
  claims?: { role: "service_role" | "authenticated"; sub?: string } | undefined;
  /** Through PgBouncer, where a session has a server for the time of one transaction only: role and claims are set in each. */
  isPooled?: boolean;
  /** What PostgreSQL shows as its name. */
  name: string;
}

/**
 * A session that connects anew when its connection was lost, but never inside of a transaction: what is left of that one fails, as
 * it would for any caller.
 *
 * @param options See {@linkcode SessionOptions}.
 * @returns The session.
 */
export function stubbornSession(options: SessionOptions): Session {
  const connection = new Connection(options);
  const run = Object.assign(
    (texts: TemplateStringsArray, ...values: unknown[]) =>
      connection.query(texts.reduce((all, text, i) => `${all}$${i}${text}`), values),
    {
      unsafe: (text: string, values?: unknown[]) => connection.query(text, values),
      begin: (body: (tx: unknown) => Promise<unknown>) => connection.transaction(() => body(run)),
    },
  );
  return {
    run: run as unknown as postgres.Sql,
    blocked: () => Promise.reject(new Error("not here")),
    [Symbol.asyncDispose]: () => connection.end(),
  };
}

class Connection {
  readonly #options: SessionOptions;
  /** Makes a transaction the caller's. */
  readonly #enter: string[];
  #client: pg.Client | undefined;
  #transaction: "none" | "open" | "lost" = "none";

  constructor(options: SessionOptions) {
    const { claims } = options;
    this.#options = options;
    this.#enter = claims
      ? [
        `set local role ${claims.role}`,
        `select set_config('request.jwt.claims', '${JSON.stringify(claims)}', true)`,
      ]
      : [];
  }

  async query(text: string, values: unknown[] = []): Promise<unknown[]> {
    const [word = ""] = text.trim().split(/\s/);
    const isPrepared = text.includes("prepared");
    if (this.#transaction === "lost") {
      if (word === "rollback") this.#transaction = "none";
      if (word === "rollback" && !/ to |prepared/.test(text)) return [];
      throw Object.assign(new Error("the connection was lost"), { code: "ROLLED_BACK" });
    }
    if (word === "rollback" && this.#transaction === "none" && !isPrepared) return [];
    const isAlone = this.#transaction === "none" && word !== "begin" && !isPrepared;
    if (this.#options.isPooled && isAlone && this.#enter.length > 0) {
      return await this.transaction(() => this.query(text, values)) as unknown[];
    }
    return await this.#send(word, text, values);
  }

  /** One transaction, as the Data API makes it. */
  async transaction(body: () => Promise<unknown>): Promise<unknown> {
    await this.query("begin");
    try {
      const result = await body();
      await this.query("commit");
      return result;
    } catch (error) {
      await this.query("rollback").catch(() => {});
      throw error;
    }
  }

  async end(): Promise<void> {
    await this.#client?.end().catch(() => {});
  }

  async #send(word: string, text: string, values: unknown[]): Promise<unknown[]> {
    const client = this.#client ?? await this.#connect();
    if (word === "begin") this.#transaction = "open";
    // what was lost before the commit was sent has not happened
    const isInside = this.#transaction !== "none" && !/^\s*(commit|prepare transaction)/.test(text);
    try {
      const { rows } = await client.query(text, values);
      if (word === "begin" && this.#options.isPooled) {
        for (const one of this.#enter) await client.query(one);
      }
      return rows;
    } catch (error) {
      if (isSqlstate(error)) throw error;
      client.end().catch(() => {});
      const { processID } = client as unknown as { processID: number };
      throw Object.assign(error as Error, {
        code: isInside ? "ROLLED_BACK" : "CONNECTION_CLOSED",
        backend: this.#options.isPooled ? 0 : processID,
      });
    } finally {
      if (/^\s*(commit$|rollback$|prepare transaction)/.test(text)) this.#transaction = "none";
    }
  }

  async #connect(): Promise<pg.Client> {
    const { url, name, isPooled } = this.#options;
    const client = new pg.Client({
      connectionString: url,
      application_name: name,
      connectionTimeoutMillis: 5_000,
    });
    const forget = () => {
      if (this.#client !== client) return;
      this.#client = undefined;
      if (this.#transaction === "open") this.#transaction = "lost";
    };
    client.on("error", forget);
    client.on("end", forget);
    try {
      await client.connect();
      const forGood = this.#enter.join(";").replaceAll("set local", "set");
      if (forGood && !isPooled) await client.query(forGood.replaceAll(", true)", ", false)"));
    } catch (error) {
      client.end().catch(() => {});
      throw isSqlstate(error) ? error : Object.assign(error as Error, { code: "NOT_CONNECTED" });
    }
    this.#client = client;
    return client;
  }
}

function isSqlstate(error: unknown): boolean {
  return /^[0-9A-Z]{5}$/.test((error as { code?: string }).code ?? "");
}
