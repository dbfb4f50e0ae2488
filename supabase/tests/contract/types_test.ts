// The types that callers get are the types that the functions keep: shown by the type checker, before any test runs.
import { assertEquals } from "@std/assert";
import type * as z from "zod/mini";
import type {
  AcquireRequest,
  EndReason,
  RefusedAnswer,
  ReleaseReason,
  ReleaseRequest,
  RenewReason,
  RenewRequest,
} from "../../functions/_shared/contract.ts";
import type {
  acquireRequest,
  releaseRequest,
  renewRequest,
} from "../../functions/_shared/requests.ts";
import type {
  ACQUIRE_REASONS,
  END_REASONS,
  RELEASE_REASONS,
  RENEW_REASONS,
} from "../../functions/_shared/rules.ts";

/** `true` where two types are the same, field for field; `false` otherwise, to which `true` cannot be assigned. */
type Same<A, B> = (<T>() => T extends Flat<A> ? 1 : 2) extends (<T>() => T extends Flat<B> ? 1 : 2)
  ? true
  : false;
type Flat<T> = T extends object ? { [K in keyof T]: T[K] } : T;

const same: {
  acquireRequest: Same<z.infer<typeof acquireRequest>, AcquireRequest>;
  renewRequest: Same<z.infer<typeof renewRequest>, RenewRequest>;
  releaseRequest: Same<z.infer<typeof releaseRequest>, ReleaseRequest>;
  endReasons: Same<typeof END_REASONS[number], EndReason>;
  acquireReasons: Same<typeof ACQUIRE_REASONS[number], RefusedAnswer["reason"]>;
  renewReasons: Same<typeof RENEW_REASONS[number], RenewReason>;
  releaseReasons: Same<typeof RELEASE_REASONS[number], ReleaseReason>;
} = {
  acquireRequest: true,
  renewRequest: true,
  releaseRequest: true,
  endReasons: true,
  acquireReasons: true,
  renewReasons: true,
  releaseReasons: true,
};

Deno.test("the schemas and the lists of reasons are of just the contract's types", () => {
  assertEquals(new Set(Object.values(same)), new Set([true]));
});

Deno.test("the contract's types need nothing else: the client library takes the file as it is", async () => {
  const file = new URL("../../functions/_shared/contract.ts", import.meta.url);
  assertEquals((await Deno.readTextFile(file)).match(/^\s*(import|export .* from)\b.*$/gm), null);
});
