import { assertEquals } from "@std/assert";
import { SignJWT } from "jose";
import { tokenVerifier } from "../rest/verify_token.ts";

const SECRET = "a secret that no one knows, of 32 bytes and more";

function token(claims: Record<string, unknown>, secret = SECRET): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(
    new TextEncoder().encode(secret),
  );
}

async function verified(authorization: string | null): Promise<unknown> {
  const result = await (await tokenVerifier(SECRET))(authorization);
  if (!(result instanceof Response)) return result;
  const { code, message } = await result.json();
  assertEquals(result.status, 401);
  return `${code} ${message}`;
}

Deno.test("a valid token gives its claims; no Bearer token gives none", async () => {
  assertEquals(await verified(`Bearer ${await token({ role: "authenticated" })}`), {
    role: "authenticated",
  });
  assertEquals(await verified(null), {});
  assertEquals(await verified("Basic eDp5"), {});
});

Deno.test("every other token is an error with PostgREST's code", async () => {
  const now = Math.floor(Date.now() / 1000);
  const bearer = async (claims: Record<string, unknown>, secret?: string) =>
    `Bearer ${await token(claims, secret)}`;
  const none = `Bearer ${btoa('{"alg":"none"}')}.${
    btoa('{"role":"service_role"}').replace(/=/g, "")
  }.`;
  assertEquals(await verified("Bearer "), "PGRST301 Empty JWT is sent in Authorization header");
  assertEquals(await verified("Bearer junk"), "PGRST301 Expected 3 parts in JWT; got 1");
  assertEquals(await verified(none), "PGRST301 No suitable key or wrong key type");
  assertEquals(
    await verified(await bearer({}, "x".repeat(40))),
    "PGRST301 No suitable key or wrong key type",
  );
  assertEquals(await verified(await bearer({ exp: now - 60 })), "PGRST303 JWT expired");
  assertEquals(await verified(await bearer({ nbf: now + 60 })), "PGRST303 JWT not yet valid");
  assertEquals(await verified(await bearer({ iat: now + 60 })), "PGRST303 JWT issued at future");
});

Deno.test("a token's error is also in the header that a client looks at", async () => {
  const error = await (await tokenVerifier(SECRET))("Bearer junk") as Response;
  assertEquals(
    error.headers.get("www-authenticate"),
    'Bearer error="invalid_token", error_description="Expected 3 parts in JWT; got 1"',
  );
});
