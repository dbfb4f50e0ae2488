import { assertLessOrEqual } from "@std/assert";
import { MAX_BYTES, packedBytes } from "../tools/pack.ts";

Deno.test("the whole library comes to 6 kB at most, minified and gzipped", async () => {
  assertLessOrEqual(await packedBytes(), MAX_BYTES);
});
