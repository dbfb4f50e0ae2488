/// <reference lib="dom" />
// @ts-types="@types/react"
import { useEffect } from "react";
import type { BoardRow } from "./board.ts";
import { DATABASES } from "./databases.ts";
import { useBoard, useDesk } from "./desk.ts";
import { LeaseRing, Padlock, Scene, type Tone } from "./pictures.tsx";
import { themeOf } from "./themes.ts";
import { clock, waitingCount } from "./words.ts";

/** All videos of the user's tenants, with who edits what. */
export function VideoList() {
  const { rows, askedAt } = useBoard();
  useEffect(() => void (document.title = "Videos · Holdfast editor"), []);
  const tenants = [...new Set(rows.map(({ tenant }) => tenant))].sort();
  const held = rows.filter(({ holder_id }) => holder_id).length;
  const waiting = rows.reduce((sum, row) => sum + row.waiting.length, 0);
  return (
    <main className="list">
      <div className="list-head">
        <h1>Videos</h1>
        {askedAt > 0 && (
          <p className="muted">
            {held === 0
              ? "Nobody is editing"
              : held === 1
              ? "1 being edited"
              : `${held} being edited`}
            {waiting > 0 && ` · ${waiting} waiting`}
          </p>
        )}
      </div>
      {askedAt === 0 && <p className="muted">Looking …</p>}
      {tenants.map((tenant) => (
        <section key={tenant} aria-label={tenant}>
          <h2 className="tenant">{tenant}</h2>
          <ul className="videos">
            {rows.filter((row) => row.tenant === tenant && row.database_name === "captions")
              .map((row) => <VideoRow key={row.video_id} row={row} rows={rows} />)}
          </ul>
        </section>
      ))}
    </main>
  );
}

function VideoRow({ row, rows }: { row: BoardRow; rows: readonly BoardRow[] }) {
  const { video_id, title, status } = row;
  return (
    <li className="video">
      <a className="thumb" href={`#video=${video_id}`} tabIndex={-1} aria-hidden="true">
        <Scene seed={video_id} theme={themeOf(video_id)} />
      </a>
      <div className="video-name">
        <h3>
          <a href={`#video=${video_id}`}>{title}</a>
        </h3>
        <p className={`status ${status}`}>{status === "processing" ? "Processing" : "Ready"}</p>
      </div>
      <div className="chips">
        {rows.filter((other) => other.video_id === video_id).map((other) => (
          <LockChip key={other.database_name} row={other} />
        ))}
      </div>
    </li>
  );
}

/** One database: who has it, and since when. */
function LockChip({ row }: { row: BoardRow }) {
  const { me } = useDesk();
  const { askedAt } = useBoard();
  const tone = toneOf(row, me);
  return (
    <div className={`chip ${tone}`}>
      {row.holder_id
        ? (
          <LeaseRing
            tone={tone}
            name={row.holder_name!}
            picture={row.holder_picture}
            secondsLeft={row.seconds_left!}
            ttl={row.ttl_seconds!}
            heardAt={askedAt}
            size={38}
          />
        )
        : (
          <span className="ring-empty">
            <Padlock isOpen />
          </span>
        )}
      <p>
        <span className="chip-title">{DATABASES[row.database_name].title}</span>
        <span className="chip-state">
          {row.holder_id
            ? `${row.holder_id === me ? "You" : row.holder_name} · since ${clock(row.locked_at!)}`
            : "Free"}
        </span>
        {row.waiting.length > 0 && <span className="badge">{waitingCount(row.waiting)}</span>}
      </p>
    </div>
  );
}

/**
 * The colour of a lock.
 *
 * @param row The lock.
 * @param me The user.
 */
export function toneOf(row: BoardRow, me: string): Tone {
  if (!row.holder_id) return "free";
  if (row.holder_type === "server") return "worker";
  return row.holder_id === me ? "mine" : "other";
}
