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
// deno-lint-ignore holdfast/short-functions -- the parts of one session share its client and its transaction
export function stubbornSession(options: SessionOptions): Session & { isPooled: boolean } {
  const { url, claims, isPooled = false, name } = options;
  let client: pg.Client | undefined;
  let transaction: "none" | "open" | "lost" = "none";
  const enter = claims
    ? [
      `set local role ${claims.role}`,
      `select set_config('request.jwt.claims', '${JSON.stringify(claims)}', true)`,
    ]
    : [];

  async function connect(): Promise<pg.Client> {
    const born = new pg.Client({
      connectionString: url,
      application_name: name,
      connectionTimeoutMillis: 5_000,
    });
    born.on("error", () => forget(born));
    born.on("end", () => forget(born));
    try {
      await born.connect();
      if (claims && !isPooled) {
        const forGood = enter.join(";").replaceAll("set local", "set").replaceAll(
          ", true)",
          ", false)",
        );
        await born.query(forGood);
      }
    } catch (error) {
      born.end().catch(() => {});
      throw isSqlstate(error as Error & { code?: string })
        ? error
        : Object.assign(error as Error, { code: "NOT_CONNECTED" });
    }
    client = born;
    return born;
  }

  function forget(one: pg.Client) {
    if (client !== one) return;
    client = undefined;
    if (transaction === "open") transaction = "lost";
  }

  async function query(text: string, values: unknown[] = []): Promise<unknown[]> {
    const [word = ""] = text.trim().split(/\s/);
    const ends = /^\s*(commit|prepare transaction)/.test(text);
    if (transaction === "lost") {
      if (word === "rollback") transaction = "none";
      if (word === "rollback" && !/ to |prepared/.test(text)) return [];
      throw Object.assign(new Error("the connection was lost"), { code: "ROLLED_BACK" });
    }
    if (word === "rollback" && transaction === "none" && !/prepared/.test(text)) return [];
    const on = client ?? await connect();
    const backend = (on as unknown as { processID: number }).processID;
    if (
      isPooled && transaction === "none" && word !== "begin" && claims && !/prepared/.test(text)
    ) {
      return await alone(text, values);
    }
    if (word === "begin") transaction = "open";
    const isInside = transaction !== "none" && !ends;
    try {
      const { rows } = await on.query(text, values);
      if (word === "begin" && isPooled) { for (const one of enter) await on.query(one); }
      return rows;
    } catch (error) {
      // what was lost before the commit was sent has not happened
      throw withCode(
        error as Error,
        on,
        isInside ? "ROLLED_BACK" : "CONNECTION_CLOSED",
        isPooled ? 0 : backend,
      );
    } finally {
      if (/^\s*(commit$|rollback$|prepare transaction)/.test(text)) transaction = "none";
    }
  }

  /** One call, as the Data API makes it. */
  async function alone(text: string, values: unknown[]): Promise<unknown[]> {
    try {
      await query("begin");
      const rows = await query(text, values);
      await query("commit");
      return rows;
    } catch (error) {
      await query("rollback").catch(() => {});
      throw error;
    }
  }

  const run = Object.assign(
    (texts: TemplateStringsArray, ...values: unknown[]) =>
      query(texts.reduce((all, text, i) => `${all}$${i}${text}`), values),
    {
      unsafe: query,
      async begin(body: (tx: unknown) => Promise<unknown>) {
        await query("begin");
        try {
          const result = await body(run);
          await query("commit");
          return result;
        } catch (error) {
          await query("rollback").catch(() => {});
          throw error;
        }
      },
    },
  );
  return {
    run: run as unknown as postgres.Sql,
    isPooled,
    blocked: () => Promise.reject(new Error("not here")),
    async [Symbol.asyncDispose]() {
      await client?.end().catch(() => {});
    },
  };
}

/** An error that did not come from the server. */
function withCode(
  error: Error & { code?: string },
  on: pg.Client,
  code: "ROLLED_BACK" | "CONNECTION_CLOSED",
  backend: number,
): Error {
  if (isSqlstate(error)) return error;
  on.end().catch(() => {});
  return Object.assign(error, { code, backend });
}

function isSqlstate({ code }: { code?: string }): boolean {
  return /^[0-9A-Z]{5}$/.test(code ?? "");
}
