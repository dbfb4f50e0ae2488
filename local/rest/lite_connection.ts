import { AsyncLocalStorage } from "node:async_hooks";
import { PostgresConnection } from "@supabase/lite/postgres";
import { CompiledQuery, Kysely, PostgresDialect, type PostgresPool } from "kysely";
// @ts-types="@types/pg"
import type pg from "pg";
import { databaseError } from "./api_error.ts";
import type { Caller } from "./request_context.ts";

/** The picture of the catalog that `@supabase/lite` plans its queries by. */
export type Catalog = Awaited<ReturnType<PostgresConnection["introspect"]>>;

type Ast = Parameters<PostgresConnection["onPostgrestAST"]>[0];

/**
 * Reads the catalog for `@supabase/lite`.
 *
 * @param client A connection that sees all of it.
 * @throws When a part of it could not be read.
 */
export async function readCatalog(client: pg.ClientBase): Promise<Catalog> {
  // lite would print a query that failed to the terminal and go on without its rows: it never hears of it
  const failed = Promise.withResolvers<never>();
  const query = (...args: Parameters<typeof client.query>) =>
    Promise.resolve(client.query(...args)).catch((error) => {
      failed.reject(error);
      return new Promise(() => {});
    });
  const only: PostgresPool = {
    connect: () =>
      Promise.resolve({ query, release() {} }) as unknown as ReturnType<PostgresPool["connect"]>,
    end: () => Promise.resolve(),
  };
  return await Promise.race([new LiteConnection(only).introspect(), failed.promise]);
}

/**
 * A connection of `@supabase/lite` that works as PostgREST does: it changes no privilege, and runs each request in
 * one transaction as its caller. It needs the `pg` driver's pool, which survives that the server goes away.
 */
export class LiteConnection extends PostgresConnection {
  constructor(pool: PostgresPool) {
    super({ url: "" }); // its own driver stays unused
    this.kysely = new Kysely({ dialect: new PostgresDialect({ pool }) });
  }
}

/** The connection that serves requests of the Data API. */
export class RequestConnection extends LiteConnection {
  readonly #catalog: () => Catalog;
  readonly #context: (caller: Caller) => pg.QueryConfig;
  readonly #caller = new AsyncLocalStorage<Caller>();

  /**
   * @param pool Connections of the role `authenticator`.
   * @param catalog The present picture of the catalog.
   * @param context What the database has to know first.
   */
  constructor(
    pool: PostgresPool,
    catalog: () => Catalog,
    context: (caller: Caller) => pg.QueryConfig,
  ) {
    super(pool);
    this.#catalog = catalog;
    this.#context = context;
  }

  /** Runs `handle` so that every query in it is the caller's. */
  serve<T>(caller: Caller, handle: () => Promise<T>): Promise<T> {
    return this.#caller.run(caller, handle);
  }

  override introspect(): Promise<Catalog> {
    return Promise.resolve(this.#catalog());
  }

  /** The driver would take an array for one of PostgreSQL's, and a string for the text of a JSON value. */
  override async onPostgrestAST(ast: Ast): Promise<Ast> {
    const { values, from } = ast = await super.onPostgrestAST(ast);
    if (!values) return ast;
    const { schema } = this.#caller.getStore()!;
    const json = new Set(
      this.#catalog().columns
        .filter((column) =>
          column.table === from && column.schema === schema && /^jsonb?$/.test(column.type)
        )
        .map(({ name }) => name),
    );
    const encode = (row: object) =>
      Object.fromEntries(
        Object.entries(row).map(([name, value]) => [
          name,
          json.has(name) && value !== null ? { toPostgres: () => JSON.stringify(value) } : value,
        ]),
      );
    return { ...ast, values: Array.isArray(values) ? values.map(encode) : encode(values) };
  }

  override async withContext<T>(
    _vars: unknown,
    run: (db: LiteConnection["kysely"]) => Promise<T>,
  ): Promise<T> {
    const caller = this.#caller.getStore()!;
    const reads = ["GET", "HEAD"].includes(caller.request.method);
    try {
      return await this.kysely.transaction().setAccessMode(reads ? "read only" : "read write")
        .execute(async (trx) => {
          const { text, values } = this.#context(caller);
          await trx.executeQuery(CompiledQuery.raw(text, values));
          return await run(trx);
        });
    } catch (error) {
      // what this returns is the answer to the request; an error that lite gets would become one of its own
      const answer = databaseError(error, caller.role);
      if (answer) return answer as T;
      throw error;
    }
  }
}
