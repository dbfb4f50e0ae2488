import { RequestError } from "./errors.ts";
import { MAX_BODY_BYTES } from "./rules.ts";

/**
 * Reads a request's body as one JSON object, and no more of it than {@link MAX_BODY_BYTES}.
 *
 * @param request The request; its body is consumed, or cancelled where it is not read to its end.
 * @param deadline Aborts when the body has to be there.
 * @returns The object. Its fields are not checked.
 * @throws {RequestError} UNSUPPORTED_MEDIA_TYPE, PAYLOAD_TOO_LARGE, REQUEST_TIMEOUT or INVALID_JSON.
 */
export async function readJsonObject(
  request: Request,
  deadline: AbortSignal,
): Promise<Record<string, unknown>> {
  const type = request.headers.get("content-type");
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (type !== null && !/^application\/json\s*(;|$)/i.test(type) || encoding !== "identity") {
    await request.body?.cancel();
    throw new RequestError("UNSUPPORTED_MEDIA_TYPE");
  }
  try {
    const body: unknown = JSON.parse(await readText(request.body, deadline));
    if (typeof body === "object" && body !== null && !Array.isArray(body)) {
      return body as Record<string, unknown>;
    }
  } catch (error) {
    if (error instanceof RequestError) throw error;
    throw new RequestError("INVALID_JSON", { cause: error });
  }
  throw new RequestError("INVALID_JSON");
}

async function readText(
  body: ReadableStream<Uint8Array> | null,
  deadline: AbortSignal,
): Promise<string> {
  if (!body) return "";
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const reader = body.getReader();
  // ends a read that waits, too
  const giveUp = () => void reader.cancel(deadline.reason).catch(() => {});
  deadline.addEventListener("abort", giveUp);
  let text = "";
  let bytes = 0;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      // counted while reading: a body may come without a length, or with a wrong one
      bytes += next.value.byteLength;
      if (bytes > MAX_BODY_BYTES) throw new RequestError("PAYLOAD_TOO_LARGE");
      text += decoder.decode(next.value, { stream: true });
    }
    if (deadline.aborted) throw new RequestError("REQUEST_TIMEOUT");
    return text + decoder.decode();
  } finally {
    deadline.removeEventListener("abort", giveUp);
    await reader.cancel().catch(() => {});
  }
}
