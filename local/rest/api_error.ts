// @ts-types="@types/pg"
import pg from "pg";

/** The body of every error that the Data API answers with. */
export interface ApiError {
  code: string;
  message: string;
  details?: string | null;
  hint?: string | null;
}

/**
 * An error answer in PostgREST's form.
 *
 * @param status The HTTP status.
 * @param error What went wrong; `details` and `hint` are sent as `null` when left out.
 * @param headers More headers.
 * @returns The answer, with the challenge that a 401 needs.
 */
export function apiError(status: number, error: ApiError, headers: HeadersInit = {}): Response {
  const { code, message, details = null, hint = null } = error;
  const answer = new Headers(headers);
  answer.set("content-type", "application/json; charset=utf-8");
  if (status === 401 && !answer.has("www-authenticate")) answer.set("www-authenticate", "Bearer");
  return new Response(JSON.stringify({ code, details, hint, message }), {
    status,
    headers: answer,
  });
}

/**
 * The answer for an error of the database: the server's own code, message, detail and hint, with the status that
 * PostgREST gives to its class. https://docs.postgrest.org/en/stable/references/errors.html
 *
 * @param error What a query, or getting a connection for it, threw.
 * @param role The role that the request ran as: anonymous callers are asked to identify themselves.
 * @returns The answer, or `null` for an error that does not come from the database.
 */
export function databaseError(error: unknown, role: string): Response | null {
  if (!(error instanceof Error)) return null;
  if (!(error instanceof pg.DatabaseError)) return connectionError(error);
  const { code = "XX000", message, detail: details = null, hint = null } = error;
  // these end the session before the query had a chance
  if (/^57P0[23]$/.test(code)) {
    return unavailable("PGRST000", "Database connection error. Retrying the connection.");
  }
  return apiError(statusOf(code, message, role), { code, message, details, hint });
}

function statusOf(code: string, message: string, role: string): number {
  const custom = /^PT(\d{3})$/.exec(code)?.[1];
  if (custom) return Number(custom) >= 200 && Number(custom) <= 599 ? Number(custom) : 500;
  if (code === "42501") return role === "anon" ? 401 : 403;
  if (code === "21000") return message.endsWith("requires a WHERE clause") ? 400 : 500;
  if (code === "22023") return /^role .* does not exist$/.test(message) ? 401 : 400;
  if (code === "42883") return message.startsWith("function xmlagg(") ? 406 : 404;
  return STATUS.find(([codes]) => codes.test(code))?.[1] ?? 400;
}

/** The first that matches counts. */
const STATUS: [codes: RegExp, status: number][] = [
  [/^P0001/, 400],
  [/^(0L|0P|28)/, 403],
  [/^42P01/, 404],
  [/^25006/, 405],
  [/^2350[35]/, 409],
  [/^(53400|42P17|PT)/, 500],
  [/^(08|53|57P01)/, 503],
  [/^(09|25|2D|38|39|3B|40|54|55|57|58|F0|HV|P0|XX)/, 500],
];

function connectionError(error: Error & { code?: string }): Response | null {
  if (error.message === "timeout exceeded when trying to connect") {
    return apiError(504, {
      code: "PGRST003",
      message: "Timed out acquiring connection from connection pool.",
    });
  }
  if (error.code === "ECONNREFUSED") {
    return unavailable("PGRST000", "Database connection error. Retrying the connection.");
  }
  if (/^(ECONN|EPIPE|ETIMEDOUT)/.test(error.code ?? "") || LOST_CONNECTION.test(error.message)) {
    return unavailable("PGRST001", "Database client error. Retrying the connection.");
  }
  return null;
}

const LOST_CONNECTION =
  /^(Connection terminated|Client has encountered a connection error|Client was closed)/;

function unavailable(code: string, message: string): Response {
  return apiError(503, { code, message });
}
