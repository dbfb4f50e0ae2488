import { RequestError } from "./errors.ts";

/** Largest body that is read, in bytes. The largest valid request has about 1.5 KiB. */
export const MAX_BODY_BYTES = 16 * 1024;

/**
 * Reads a request's body as one JSON object, and no more of it than {@link MAX_BODY_BYTES}.
 *
 * @param request The request; its body is consumed, or cancelled where it is refused.
 * @returns The object. Its fields are not checked.
 * @throws {RequestError} UNSUPPORTED_MEDIA_TYPE, PAYLOAD_TOO_LARGE or INVALID_JSON.
 */
export async function readJsonObject(request: Request): Promise<Record<string, unknown>> {
  const type = request.headers.get("content-type");
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (type !== null && !/^application\/json\s*(;|$)/i.test(type) || encoding !== "identity") {
    await request.body?.cancel();
    throw new RequestError("UNSUPPORTED_MEDIA_TYPE");
  }

  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  let bytes = 0;
  try {
    // counted while reading: a body may come without a length, or with a wrong one
    for await (const chunk of request.body ?? []) {
      bytes += chunk.byteLength;
      if (bytes > MAX_BODY_BYTES) throw new RequestError("PAYLOAD_TOO_LARGE");
      text += decoder.decode(chunk, { stream: true });
    }
    const body: unknown = JSON.parse(text + decoder.decode());
    if (typeof body === "object" && body !== null && !Array.isArray(body)) {
      return body as Record<string, unknown>;
    }
  } catch (error) {
    if (error instanceof RequestError) throw error;
    throw new RequestError("INVALID_JSON", { cause: error });
  }
  throw new RequestError("INVALID_JSON");
}
