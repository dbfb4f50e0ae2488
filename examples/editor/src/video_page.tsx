/// <reference lib="dom" />
// @ts-types="@types/react"
import { useEffect, useState } from "react";
import { CaptionsForm } from "./captions_form.tsx";
import { captionsOf, DATABASES } from "./databases.ts";
import { useBoard, useDesk } from "./desk.ts";
import { LayoutForm } from "./layout_form.tsx";
import { Panel } from "./panel.tsx";
import { Preview } from "./preview.tsx";
import { type InUse, useEditing } from "./use_editing.ts";
import { ordinal } from "./words.ts";

/** One video: how it looks, its captions, its layout. */
export function VideoPage({ video_id }: { video_id: string }) {
  const { board } = useDesk();
  const { askedAt } = useBoard();
  const captions = useEditing(video_id, DATABASES.captions);
  const layout = useEditing(video_id, DATABASES.layout);
  const [shown, setShown] = useState<string | null>(null);
  const row = board.row(video_id, "captions");
  useEffect(() => {
    document.title = titleOf(row?.title ?? "Video", captions, layout);
  });
  if (!row) {
    return (
      <main className="welcome">
        {askedAt ? <h1>There is no such video here</h1> : <p className="muted">Looking …</p>}
        <p>
          <a href="#">All videos</a>
        </p>
      </main>
    );
  }
  const lines = captionsOf(docOf(captions));
  const line = lines.find(({ id }) => id === shown) ?? lines[0];
  return (
    <main className="video-page">
      <div className="page-head">
        <a className="back" href="#">← All videos</a>
        <h1>{row.title}</h1>
        <p className="muted">
          {row.tenant}
          {row.status === "processing" && <span className="status processing">Processing</span>}
        </p>
      </div>
      <div className="columns">
        <Preview
          video_id={video_id}
          tenant={row.tenant}
          layout={docOf(layout)}
          caption={line?.text ?? ""}
        />
        <Panel inUse={captions} database={DATABASES.captions}>
          <CaptionsForm inUse={captions} shown={line?.id ?? null} onShow={setShown} />
        </Panel>
        <Panel inUse={layout} database={DATABASES.layout}>
          <LayoutForm inUse={layout} />
        </Panel>
      </div>
    </main>
  );
}

function docOf({ state }: InUse) {
  return state.mine ?? state.now ?? {};
}

/** What matters first: something was lost, then a turn, then a place in the line. */
function titleOf(video: string, captions: InUse, layout: InUse): string {
  const both = [["captions", captions], ["layout", layout]] as const;
  const words = [
    both.flatMap(([name, { state }]) => state.loss ? [`Lost: ${name}`] : []),
    both.flatMap(([name, { state }]) =>
      state.phase !== "editing" ? [] : [`${state.inDoubtUntil ? "Trouble" : "Editing"}: ${name}`]
    ),
    both.flatMap(([name, { position }]) =>
      position ? [`${ordinal(position)} in line: ${name}`] : []
    ),
    both.flatMap(([name, { row, state }]) =>
      row?.holder_id && state.phase === "reading" ? [`Locked: ${name}`] : []
    ),
  ].flat();
  return [...words.slice(0, 1), video, "Holdfast editor"].join(" · ");
}
