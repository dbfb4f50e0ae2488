import { errors, type JWTPayload, jwtVerify } from "jose";
import { apiError } from "./api_error.ts";

/** Checks the Authorization header of one request. */
export type TokenVerifier = (authorization: string | null) => Promise<JWTPayload | Response>;

/**
 * Makes the check that PostgREST does before a request: a token that is not valid is an error, never taken for the anonymous caller.
 *
 * @param secret The stack's JWT secret (HS256).
 * @returns A function from an `Authorization` header to the claims of its token. No Bearer token means no claims.
 *   Anything wrong with the token gives the answer to send: 401 with PostgREST's codes.
 */
export async function tokenVerifier(secret: string): Promise<TokenVerifier> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey(
    "raw",
    new TextEncoder().encode(secret),
    algorithm,
    false,
    ["verify"],
  );
  return async (authorization) => {
    const [, token] = authorization?.match(/^bearer(?: +(.*))?$/i) ?? [];
    if (authorization === null || token === undefined && !/^bearer *$/i.test(authorization)) {
      return {};
    }
    if (!token) return tokenError("PGRST301", "Empty JWT is sent in Authorization header");
    const parts = token.split(".").length;
    if (parts !== 3) return tokenError("PGRST301", `Expected 3 parts in JWT; got ${parts}`);
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ["HS256"],
        clockTolerance: SKEW_SECONDS,
      });
      if (payload.iat !== undefined && payload.iat > Date.now() / 1000 + SKEW_SECONDS) {
        return tokenError("PGRST303", "JWT issued at future");
      }
      return payload;
    } catch (error) {
      if (error instanceof errors.JWTExpired) return tokenError("PGRST303", "JWT expired");
      if (error instanceof errors.JWTClaimValidationFailed) {
        return tokenError(
          "PGRST303",
          error.claim === "nbf" ? "JWT not yet valid" : "Parsing claims failed",
        );
      }
      return tokenError(
        "PGRST301",
        "No suitable key or wrong key type",
        "None of the keys was able to decode the JWT",
      );
    }
  };
}

const SKEW_SECONDS = 30;

function tokenError(code: string, message: string, details: string | null = null): Response {
  const challenge = `Bearer error="invalid_token", error_description="${message}"`;
  return apiError(401, { code, message, details }, { "www-authenticate": challenge });
}
