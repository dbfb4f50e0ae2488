// Runs in Chromium: a page that has the client, and reports to the test what it believes.
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { createLockClient, type Lease, type LockClient, type LockOptions } from "../mod.ts";
import { WEB_LOCKS } from "../conformance/suite.ts";
import type { TestedManager } from "../conformance/surroundings.ts";

/** What a test gives a page to start with. */
export interface Start {
  url: string;
  key: string;
  /** A user's access token, or a session that supabase-js keeps itself. */
  token?: string;
  session?: { access_token: string; refresh_token: string };
}

const leases: Lease[] = [];
/** When a lease was lost last, on the wall clock. */
let lostAt = 0;
/** How often this page came back out of the back/forward cache. */
let restored = 0;
addEventListener(
  "pageshow",
  (event) => restored += Number((event as { persisted?: boolean }).persisted),
);
let supabase: SupabaseClient;
let locks: LockClient;

/** What a test can ask of a page. */
const api = {
  async start({ url, key, token, session }: Start): Promise<void> {
    supabase = createClient(
      url,
      key,
      token ? { accessToken: () => Promise.resolve(token) } : { auth: { autoRefreshToken: false } },
    );
    if (session) await supabase.auth.setSession(session);
    locks = createLockClient(supabase);
  },
  /** Holds a lock until it is lost; resolves with the token once it is granted. */
  hold(video_id: string, options: LockOptions = {}): Promise<number> {
    return new Promise((resolve, reject) => {
      locks.request({ video_id, database_name: "layout" }, options, (lease) => {
        leases.push(lease);
        lease.signal.addEventListener("abort", () => lostAt = Date.now());
        resolve(lease.fencingToken);
        return new Promise(() => {});
      }).catch(reject);
    });
  },
  /** Asks for a lock, and does not wait for it. */
  ask(video_id: string): void {
    api.hold(video_id).catch(() => {});
  },
  /** What the page believes of each of its leases. */
  believes: () => leases.map((lease) => lease.state),
  /** Why the last lease was lost. */
  lost: () => leases.at(-1)?.signal.reason?.reason,
  lostAt: () => lostAt,
  /** Times that this page came back out of the back/forward cache. */
  restored: () => restored,
  signOut: () => supabase.auth.signOut(),
  /** Runs the suite of Web Locks against the browser's own. */
  async webLocks(): Promise<Record<string, string>> {
    const failed: Record<string, string> = {};
    const native = (navigator as unknown as { locks: TestedManager }).locks;
    for (const [i, { name, run }] of WEB_LOCKS.entries()) {
      await run({ locks: native, a: `a${i}`, b: `b${i}` })
        .catch((error) => failed[name] = String(error));
    }
    return failed;
  },
};

/** The same, as a test sees it. */
export type PageApi = typeof api;

Object.assign(globalThis, { api, createLockClient });
