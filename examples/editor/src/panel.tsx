/// <reference lib="dom" />
// @ts-types="@types/react"
import { type ReactNode, useEffect, useRef } from "react";
import { Banners, LossBanners } from "./banners.tsx";
import type { Database } from "./databases.ts";
import { HistoryDialog } from "./history_dialog.tsx";
import { LockBar } from "./lock_bar.tsx";
import type { InUse } from "./use_editing.ts";

/** One database of a video: its lock, what has to be said about it, and its fields. */
export function Panel(
  { inUse, database, children }: { inUse: InUse; database: Database; children: ReactNode },
) {
  const { state: { phase, loss }, row } = inUse;
  const section = useRef<HTMLElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const before = useRef(phase);
  useEffect(() => {
    // the button that was pressed is gone: who uses the keyboard goes on where it leads to
    if (before.current !== phase && !document.activeElement?.closest("section, [role=dialog]")) {
      const first = phase === "editing"
        ? section.current?.querySelector<HTMLElement>("textarea, .layout-fields input")
        : null;
      (first ?? heading.current)?.focus({ preventScroll: true });
    }
    before.current = phase;
  }, [phase]);
  const id = `panel-${database.name}`;
  const look = phase === "editing" ? "editing" : loss ? "lost" : "";
  return (
    <section ref={section} className={`panel ${database.name} ${look}`} aria-labelledby={id}>
      <div className="panel-head">
        <h2 id={id} ref={heading} tabIndex={-1}>{database.title}</h2>
        <HistoryDialog video_id={inUse.editing.video_id} database={database} />
      </div>
      {row && <LossBanners inUse={inUse} row={row} database={database} />}
      {row && <LockBar inUse={inUse} row={row} database={database} />}
      {row && <Banners inUse={inUse} row={row} database={database} />}
      {children}
    </section>
  );
}
