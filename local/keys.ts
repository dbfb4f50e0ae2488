import { SignJWT } from "jose";
import { StackError } from "./stack_error.ts";

/** Everything secret that one data folder's stack is known by. */
export interface Keys {
  /** `sb_publishable_…`: acts as the role `anon`. */
  publishableKey: string;
  /** `sb_secret_…`: acts as the role `service_role`. */
  secretKey: string;
  /** The legacy form of the publishable key: a JWT with the role `anon`. */
  anonKey: string;
  /** The legacy form of the secret key: a JWT with the role `service_role`. */
  serviceRoleKey: string;
  /** Signs and verifies every JWT of the stack (HS256). */
  jwtSecret: string;
  /** The password of the embedded server's superuser, which no URL that the stack prints contains. */
  adminPassword: string;
}

/**
 * Reads the keys of a data folder, and makes them on first use. They are random, so that the keys of one project
 * open no other.
 *
 * @param file The JSON file that keeps them, readable by its owner only.
 * @returns The keys, the same at every call.
 * @example
 * ```ts
 * import { readKeys } from "./keys.ts";
 *
 * const file = await Deno.makeTempFile();
 * await Deno.remove(file);
 * const { secretKey } = await readKeys(file);
 * console.assert((await readKeys(file)).secretKey === secretKey);
 * await Deno.remove(file);
 * ```
 */
export async function readKeys(file: string): Promise<Keys> {
  try {
    return JSON.parse(await Deno.readTextFile(file));
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new StackError(`${file} is damaged. Remove it: the data stays, and the keys are new.`);
    }
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const keys = await makeKeys();
  await Deno.writeTextFile(file, JSON.stringify(keys, null, 2) + "\n", {
    mode: 0o600,
    createNew: true,
  });
  return keys;
}

async function makeKeys(): Promise<Keys> {
  const jwtSecret = random(48);
  const legacy = (role: string) =>
    new SignJWT({ role })
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .setIssuer("supabase-demo")
      .setIssuedAt()
      .setExpirationTime("10y")
      .sign(new TextEncoder().encode(jwtSecret));
  return {
    publishableKey: await apiKey("sb_publishable_"),
    secretKey: await apiKey("sb_secret_"),
    anonKey: await legacy("anon"),
    serviceRoleKey: await legacy("service_role"),
    jwtSecret,
    adminPassword: random(24),
  };
}

/** 22 random characters and 8 that check them, the form that Supabase's own keys have. */
async function apiKey(prefix: string): Promise<string> {
  const id = prefix + random(16);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(id));
  return `${id}_${base64url(new Uint8Array(digest)).slice(0, 8)}`;
}

function random(bytes: number): string {
  return base64url(crypto.getRandomValues(new Uint8Array(bytes)));
}

function base64url(bytes: Uint8Array<ArrayBuffer>): string {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}
