/**
 * A version for a migration that comes after all others. Supabase orders versions as texts.
 *
 * @param last The version of the project's last migration, if it has any: digits.
 * @param now The time.
 * @returns The time as YYYYMMDDHHMMSS, or the next one after `last` where that is later.
 */
export function nextVersion(last: string | undefined, now: Date): string {
  const current = now.toISOString().replaceAll(/\D/g, "").slice(0, 14);
  if (last === undefined || last < current) return current;
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(last)?.slice(1).map(Number);
  if (parts) {
    const [year, month, day, hour, minute, second] = parts as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const next = new Date(Date.UTC(year, month - 1, day, hour, minute, second + 1));
    const version = next.toISOString().replaceAll(/\D/g, "").slice(0, 14);
    if (version > last) return version;
  }
  // no time: the same digits, and more of them, sort behind it
  return last.padEnd(13, "0") + "1";
}
