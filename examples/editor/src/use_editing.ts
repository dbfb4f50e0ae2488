/// <reference lib="dom" />
// @ts-types="@types/react"
import { useEffect, useState, useSyncExternalStore } from "react";
import type { BoardRow } from "./board.ts";
import type { Database } from "./databases.ts";
import { useBoard, useDesk } from "./desk.ts";
import { Editing, type EditingState } from "./editing.ts";

/** One database of a video, as a screen uses it. */
export interface InUse {
  editing: Editing;
  state: EditingState;
  /** Its lock. */
  row: BoardRow | undefined;
  /** The user's place in the line. */
  position: number | null;
}

/**
 * One database of a video, followed while the component is mounted. Unmounted, it saves and releases.
 *
 * @param video_id The video.
 * @param database The database.
 */
export function useEditing(video_id: string, database: Database): InUse {
  const desk = useDesk();
  useBoard();
  const [editing] = useState(() => new Editing(desk, video_id, database));
  useEffect(() => editing.start(), [editing]);
  const state = useSyncExternalStore(
    (changed) => {
      editing.addEventListener("change", changed);
      return () => editing.removeEventListener("change", changed);
    },
    () => editing.state,
  );
  const row = editing.withoutEnded(desk.board.row(video_id, database.name));
  const mine = row?.waiting.find(({ id }) => id === desk.me);
  return {
    editing,
    state,
    row,
    position: state.phase === "asking" ? mine?.position ?? null : null,
  };
}
