/** Whether this is a long run: `SOAK=1`, as `deno task test:soak` sets it. */
export const isSoak: boolean = !["", "0", undefined].includes(Deno.env.get("SOAK"));

/**
 * How often to repeat something: seldom in the gate, which everyone waits for, often in the soak.
 *
 * @param gate The number for `deno task test`.
 * @param soak The number for `deno task test:soak`.
 * @returns The one for this run.
 */
export function runs(gate: number, soak: number): number {
  return isSoak ? soak : gate;
}
