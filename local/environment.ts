/**
 * Makes this process, and every process that it starts, deaf to what its environment says about other servers: libpq's
 * variables (`PGSSLMODE`, `PGHOST`, …) would change each connection to the database, and a proxy cannot reach loopback.
 * A proxy stays in force for everything else, such as downloads.
 *
 * To be called before a part of the stack starts: before the first connection and the first `fetch`.
 */
export function isolateEnvironment(): void {
  const all = Deno.env.toObject();
  for (const name of Object.keys(all)) if (/^PG[A-Z_]+$/.test(name)) Deno.env.delete(name);
  const direct = (all.NO_PROXY ?? all.no_proxy ?? "").split(",").filter(Boolean);
  const value = [...new Set([...direct, ...LOOPBACK])].join(",");
  for (const name of ["NO_PROXY", "no_proxy"]) Deno.env.set(name, value); // curl reads only the small ones
}

const LOOPBACK = ["127.0.0.1", "localhost"];

/** Whether the environment names a proxy. */
export function hasProxy(): boolean {
  return Object.keys(Deno.env.toObject()).some((name) => PROXY.test(name));
}

/** The names of the variables that name a proxy to a program. */
export const PROXY = /^(all|https?)_proxy$/i;
