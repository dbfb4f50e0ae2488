import type { BrowserContext, WebSocketRoute } from "playwright-core";

/** What `phx_join` asks for. */
interface Join {
  config: { postgres_changes: Record<string, string>[] };
}

/** Answers in the place of Supabase Realtime, which the embedded stack has not. */
export interface RealtimeStandIn {
  /** Says that a row of a table has changed, to all who listen. */
  tell(table: string): void;
}

/**
 * Speaks as much of Realtime's protocol as a page needs to hear of changes.
 *
 * @param browser Whose pages.
 */
export async function standInForRealtime(browser: BrowserContext): Promise<RealtimeStandIn> {
  const listeners: { socket: WebSocketRoute; topic: string; changes: Record<string, string>[] }[] =
    [];
  await browser.routeWebSocket(/\/realtime\/v1\/websocket/, (socket) => {
    socket.onMessage((message) => {
      const [joinRef, ref, topic, event, payload] = JSON.parse(String(message));
      let response = {};
      if (event === "phx_join") {
        const changes = (payload as Join).config.postgres_changes;
        listeners.push({ socket, topic, changes });
        response = { postgres_changes: changes.map((change, i) => ({ id: i + 1, ...change })) };
      }
      const reply = { status: "ok", response };
      socket.send(JSON.stringify([joinRef, ref, topic, "phx_reply", reply]));
    });
  });
  return {
    tell(table) {
      for (const { socket, topic, changes } of listeners) {
        const id = changes.findIndex((change) => change.table === table) + 1;
        const data = {
          type: "UPDATE",
          schema: "public",
          table,
          commit_timestamp: new Date().toISOString(),
          columns: [],
          record: {},
          old_record: {},
          errors: null,
        };
        const payload = { ids: [id], data };
        socket.send(JSON.stringify([null, null, topic, "postgres_changes", payload]));
      }
    },
  };
}
