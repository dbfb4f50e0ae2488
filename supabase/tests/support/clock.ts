/**
 * A moment of the database as the number that a fencing token is made of.
 *
 * @param time ISO 8601 in UTC, as an answer has it; to the microsecond, which `Date` cannot keep.
 * @returns Microseconds since 1970.
 */
export function microseconds(time: string): number {
  const [, seconds, fraction = ""] = time.match(/^([^.Z+]+)(?:\.(\d+))?(?:Z|\+00:00)$/) ?? [];
  if (!seconds) throw new Error(`${time} is no time in UTC`);
  return Date.parse(`${seconds}Z`) * 1000 + Number(fraction.padEnd(6, "0"));
}
