import { SignJWT } from "jose";
import { publishableKey, secretKey, url } from "./stack.ts";
import type { User } from "./tenant.ts";

/** The columns of the table: who calls. */
export const CALLERS = [
  "no key",
  "publishable key",
  "forged token",
  "expired token",
  "none / other key",
  "member",
  "admin",
  "other tenant",
  "removed",
  "secret key",
  "wrong secret",
] as const;

/** Who calls. */
export type Caller = typeof CALLERS[number];

/**
 * Reads the authority matrix of docs/reference/authority.md.
 *
 * @returns The rows by their names, each with its cells by caller. Backticks are left out.
 * @throws {Error} When the table is missing, or has other columns than {@link CALLERS}.
 */
export function readMatrix(): Map<string, Record<Caller, string>> {
  const text = Deno.readTextFileSync(
    new URL("../../../docs/reference/authority.md", import.meta.url),
  );
  const tables = text.split(/\n\n+/).map((block) =>
    block.split("\n").filter((line) => line.startsWith("|"))
      .map((line) => line.split("|").slice(1, -1).map((cell) => cell.replaceAll("`", "").trim()))
  );
  const table = tables.find(([header]) => header?.slice(1).join() === CALLERS.join());
  if (!table) {
    throw new Error(`docs/reference/authority.md has no table with the columns ${CALLERS}`);
  }
  return new Map(
    table.slice(2).map(([name = "", ...cells]) => [
      name,
      Object.fromEntries(CALLERS.map((caller, i) => [caller, cells[i] ?? ""])) as Record<
        Caller,
        string
      >,
    ]),
  );
}

/**
 * Signs a user's token with the stack's own secret.
 *
 * @param user The id of the user.
 * @param expires When it ends, in seconds from now.
 * @returns The token, or undefined where SUPABASE_JWT_SECRET does not say the secret.
 */
export async function signedToken(user: string, expires: number): Promise<string | undefined> {
  const secret = Deno.env.get("SUPABASE_JWT_SECRET");
  if (!secret) return undefined;
  const now = Math.floor(Date.now() / 1000);
  return await new SignJWT({ sub: user, role: "authenticated", aud: "authenticated" })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuedAt(Math.min(now, now + expires - 3600))
    .setExpirationTime(now + expires)
    .sign(new TextEncoder().encode(secret));
}

/**
 * Whether this stack can be shown a token that is truly its own and has expired: SUPABASE_JWT_SECRET is set, and
 * the Data API believes what is signed with it.
 *
 * @returns True where a fresh token with that signature is accepted.
 */
export async function canSign(): Promise<boolean> {
  const token = await signedToken(crypto.randomUUID(), 3600);
  if (!token) return false;
  const answer = await fetch(`${url}/rest/v1/videos?limit=1`, {
    headers: { apikey: publishableKey, authorization: `Bearer ${token}` },
  });
  await answer.body?.cancel();
  return answer.ok;
}

/**
 * The headers that a caller sends. Where a caller can try in several ways, each of them.
 *
 * @param caller Who calls.
 * @param user Whose token it is, or is made from.
 * @returns One or more sets of headers.
 */
export async function credentials(caller: Caller, user: User): Promise<Record<string, string>[]> {
  const withToken = (token: string) => ({
    apikey: publishableKey,
    authorization: `Bearer ${token}`,
  });
  switch (caller) {
    case "no key":
      return [{}];
    case "publishable key":
      return [{ apikey: publishableKey }, withToken(publishableKey)];
    case "forged token":
      return forged(user).map(withToken);
    case "none / other key":
      return (await signedByOthers(user)).map(withToken);
    case "expired token":
      return [withToken((await signedToken(user.id, -3600))!)];
    case "secret key":
      return [{ apikey: secretKey }];
    case "wrong secret":
      return [
        { apikey: secretKey.slice(0, -4) + (secretKey.endsWith("AAAA") ? "BBBB" : "AAAA") },
        { apikey: "sb_secret_wrong", authorization: "Bearer sb_secret_wrong" },
      ];
    default:
      return [withToken(user.token)];
  }
}

const base64url = (text: string) =>
  new TextEncoder().encode(text).toBase64({ alphabet: "base64url", omitPadding: true });

/** The claims of a token, with some of them changed. */
function claims(token: string, changed: Record<string, unknown>): Record<string, unknown> {
  const payload = Uint8Array.fromBase64(token.split(".")[1]!, { alphabet: "base64url" });
  return { ...JSON.parse(new TextDecoder().decode(payload)), ...changed };
}

/** A user's token, with what it says or how it is signed changed by a caller who has no key. */
function forged({ token }: User): string[] {
  const [header, payload, signature = ""] = token.split(".");
  const saying = (changed: Record<string, unknown>) =>
    `${header}.${base64url(JSON.stringify(claims(token, changed)))}.${signature}`;
  return [
    `${header}.${payload}.${[...signature].toReversed().join("")}`,
    saying({ role: "service_role" }),
    saying({ exp: 4_000_000_000 }),
  ];
}

/** Tokens that say what a good one would say, without a signature or with one of another key. */
async function signedByOthers({ token }: User): Promise<string[]> {
  const sign = (key: string, changed: Record<string, unknown>) =>
    new SignJWT(claims(token, changed)).setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .sign(new TextEncoder().encode(key.padEnd(32, "0")));
  const none = base64url('{"alg":"none","typ":"JWT"}');
  return [
    `${none}.${token.split(".")[1]}.`,
    `${none}.${base64url(JSON.stringify(claims(token, { role: "service_role" })))}.`,
    await sign("a key of another project", {}),
    // what is public could be taken for the shared secret
    await sign(publishableKey, { role: "service_role" }),
  ];
}
