import type { ErrorCode } from "./contract.ts";

/** What a function writes about one request, as one line of JSON. It holds no header, in which the credentials are. */
export interface LogLine {
  /** Also in the answer's header `x-request-id`, and sent on to the Data API. */
  request_id: string;
  /** Name of the function. */
  function: string;
  /** The caller's trace (W3C Trace Context), if there was one. */
  traceparent?: string;
  video_id?: string;
  database_name?: string;
  database_names?: string[];
  /** The yes of the answer (`acquired`, …), its reason for a no, or the code of the error; of a caller who hung up, `CALLER_GONE`. */
  outcome: string;
  /** HTTP status of the answer. */
  status: number;
  /** From the request to the answer, in milliseconds. */
  ms: number;
  /** What the caller does not see of an error. */
  cause?: unknown;
}

/** What is known of a request while it is being answered. */
export type LogDraft = Omit<LogLine, "outcome" | "status" | "ms"> & {
  outcome?: string | ErrorCode | "CALLER_GONE";
};
