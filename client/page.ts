import type { Calls } from "./calls.ts";

/** What the client does when something happens around it. */
export interface Reactions {
  /** The network is back, the page is shown, the machine is awake: look at everything at once. */
  wake(): void;
  /** The page is being left, or the user signs out. */
  leave(): void;
  /** Another tab of this origin says that something has become of these locks. */
  hear(ids: string[]): void;
}

/** The document, where there is one. */
const page = () => (globalThis as { document?: EventTarget & { hidden: boolean } }).document;

/**
 * Whether timers may be slowed down to one a minute.
 *
 * @returns True in a page that nobody sees; `undefined` where there is no page.
 */
export function isHidden(): boolean | undefined {
  return page()?.hidden;
}

/**
 * Listens to the page, if there is one, to the session and to the other tabs.
 *
 * @param calls Whose session.
 * @param reactions What to do.
 * @returns What notifies the other tabs, and what stops listening.
 */
export function listen(
  calls: Calls,
  { wake, leave, hear }: Reactions,
): { notify(ids: readonly string[]): void; stop(): void } {
  const end = new AbortController();
  const { signal } = end;
  // of the window or of the worker; Node has no such function, and nothing happens to it either
  const on = (type: string, listener: () => void) =>
    globalThis.addEventListener?.(type, listener, { signal });
  on("online", wake);
  on("pageshow", wake);
  on("pagehide", leave);
  const document = page();
  document?.addEventListener("visibilitychange", () => document.hidden || wake(), { signal });

  // only in a page: elsewhere an open channel would keep the process alive
  let channel: BroadcastChannel | undefined;
  try {
    channel = document && new BroadcastChannel(`holdfast ${calls.url}`);
  } catch {
    // refused where the user blocks a site's data
  }
  channel?.addEventListener("message", (event) => hear((event as MessageEvent).data));

  const session = calls.hasSession
    ? calls.supabase.auth.onAuthStateChange((event, session) => {
      // nothing is awaited here: supabase-js would wait for this, and this for supabase-js
      if (event === "SIGNED_OUT") leave(); // with the token that was used last
      else calls.prepare(session?.access_token);
    }).data.subscription
    : undefined;

  return {
    notify: (ids) => channel?.postMessage(ids),
    stop() {
      end.abort();
      channel?.close();
      session?.unsubscribe();
    },
  };
}
