/// <reference lib="dom" />
type Listener = (text: string) => void;
const listeners = new Set<Listener>();

/**
 * Says something to who does not see the page, once and politely.
 *
 * @param text A sentence. No countdowns: they would be read out without end.
 */
export function announce(text: string): void {
  for (const listener of listeners) listener(text);
}

/**
 * Hears what is announced: the page's one live region does.
 *
 * @param listener Gets each sentence.
 * @returns Ends it.
 */
export function onAnnouncement(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
