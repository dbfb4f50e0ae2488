// The ways to a lock: over HTTP, or by SQL as the role that the Data API would use. All take the same fields.
import { openSession, type Session } from "./race.ts";
import { client, invoke, publishableKey, secretKey } from "./stack.ts";

/** The three functions. */
export type LockFunction = "acquire_lock" | "renew_lock" | "release_lock";

/** Who comes: a user with their token, or a server. */
export interface Visitor {
  /** The user; none for a server. */
  user?: { id: string; token: string };
}

/** Makes a call. All that comes of it is an answer: `{ code }` with a code of the error table, too. */
export type Door = (
  visitor: Visitor,
  name: LockFunction | "advance_server_version",
  fields: Record<string, unknown>,
  /** Hangs up; only over HTTP, and only a door that says so. */
  signal?: AbortSignal,
) => Promise<Record<string, unknown>>;

/** The arguments of each function, in order; one that is left out is sent as null, which has to be the same. */
const ARGUMENTS = {
  acquire_lock: [
    "video_id",
    "database_name",
    "lock_holder_user_id",
    "lock_id",
    "ttl_seconds",
    "take_over",
    "queue_seconds",
    "database_names",
  ],
  renew_lock: ["video_id", "database_name", "lock_id", "ttl_seconds", "active", "database_names"],
  release_lock: [
    "video_id",
    "database_name",
    "lock_id",
    "lock_holder_user_id",
    "force",
    "database_names",
  ],
  advance_server_version: ["video_id", "database_name", "fencing_token"],
};

const CODES: Record<string, string> = {
  PT400: "INVALID_REQUEST",
  PT401: "NOT_AUTHENTICATED",
  PT403: "FORBIDDEN",
  PT404: "VIDEO_NOT_FOUND",
  PT412: "LOCK_NOT_HELD",
  PT503: "LOCK_BUSY",
};

/** An error in the words of the HTTP contract; one that is not of the contract is thrown. */
function answerOf(error: { code?: string; message?: string }): Record<string, unknown> {
  // in the microseconds between the read and the write a direct SQL caller may see this for busy
  if (error.code === "55P03") return { code: "BUSY" };
  const code = CODES[error.code ?? ""];
  if (!code) throw new Error(`${error.code}: ${error.message}`, { cause: error });
  return { code };
}

/**
 * Opens doors by SQL: one session for each caller, with the role and claims that the Data API would set.
 *
 * @param stack Closes the sessions.
 * @param schema Where the functions are.
 * @returns The door.
 */
export function sqlDoor(stack: AsyncDisposableStack, schema = "public"): Door {
  const sessions = new Map<string, Session>();
  return async ({ user }, name, fields) => {
    const key = user?.id ?? "server";
    let session = sessions.get(key);
    if (!session) {
      session = openSession(
        user ? { role: "authenticated", sub: user.id } : { role: "service_role" },
      );
      sessions.set(key, stack.use(session));
    }
    const inside = name === "advance_server_version" ? "public" : schema;
    const values = ARGUMENTS[name].map((argument) => fields[argument] ?? null);
    try {
      const [row] = await session.run.unsafe<{ answer: Record<string, unknown> | number }[]>(
        `select ${inside}.${name}(${values.map((_, i) => `$${i + 1}`).join(", ")}) as answer`,
        values as string[],
      );
      return typeof row!.answer === "number" ? { version: row!.answer } : row!.answer;
    } catch (error) {
      return answerOf(error as { code?: string; message?: string });
    }
  };
}

/**
 * Opens doors over HTTP: the edge functions, or the Data API's RPCs, which take the same fields and give the same answers.
 *
 * @param way Which of the two. `advance_server_version` is an RPC in any case.
 * @returns The door.
 */
export function httpDoor(way: "functions" | "rpc"): Door {
  const server = client(secretKey);
  const users = new Map<string, ReturnType<typeof client>>();
  return async ({ user }, name, fields) => {
    let caller = user ? users.get(user.token) : server;
    if (!caller) users.set(user!.token, caller = client(publishableKey, user!.token));
    if (way === "functions" && name !== "advance_server_version") {
      const { status, body } = await invoke(caller, `lock-${name.split("_")[0]}`, fields);
      if (status >= 500) throw new Error(`${name}: ${status} ${JSON.stringify(body)}`);
      return body.code ? { code: body.code } : { ...body };
    }
    const { data, error } = await caller.rpc(name, fields);
    if (error) return answerOf(error);
    return typeof data === "number" ? { version: data } : data;
  };
}

/**
 * The door over HTTP that knows every field of the contract: the edge functions, or, where those do not know the line yet
 * and answer with an error that names its field, the Data API's RPCs.
 *
 * @returns The door.
 */
export async function newestHttpDoor(): Promise<Door> {
  const answer = await httpDoor("functions")({}, "acquire_lock", {
    video_id: crypto.randomUUID(),
    database_name: "layout",
    lock_holder_user_id: "worker-1",
    queue_seconds: 0,
  });
  return httpDoor(answer.code === "VIDEO_NOT_FOUND" ? "functions" : "rpc");
}
