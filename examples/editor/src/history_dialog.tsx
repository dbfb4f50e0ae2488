/// <reference lib="dom" />
// @ts-types="@types/react"
import { useEffect, useState } from "react";
import { Button, DialogTrigger } from "react-aria-components";
import type { Database } from "./databases.ts";
import { useDesk } from "./desk.ts";
import { Window } from "./modal.tsx";
import { Face } from "./pictures.tsx";
import { clock, endedHow, span } from "./words.ts";

/** A lease that ended: a row of the view `lock_history`. */
interface Entry {
  lock_id: string;
  holder_name: string;
  holder_picture: string | null;
  locked_at: string;
  ended_at: string;
  end_reason: string;
  ended_by: string | null;
}

/** Who had the lock before. */
export function HistoryDialog({ video_id, database }: { video_id: string; database: Database }) {
  return (
    <DialogTrigger>
      <Button className="quiet" aria-label={`History of the ${database.name}`}>History</Button>
      <Window title={`${database.title}: who has edited`}>
        {(close) => (
          <>
            <Entries video_id={video_id} database={database} />
            <div className="actions end">
              <Button className="secondary" autoFocus onPress={close}>Close</Button>
            </div>
          </>
        )}
      </Window>
    </DialogTrigger>
  );
}

function Entries({ video_id, database }: { video_id: string; database: Database }) {
  const { supabase } = useDesk();
  const [entries, setEntries] = useState<Entry[] | "failed" | null>(null);
  useEffect(() => {
    supabase.from("lock_history").select()
      .match({ video_id, database_name: database.name })
      .order("ended_at", { ascending: false }).limit(20)
      .then(({ data }) => setEntries(data as Entry[] | null ?? "failed"));
  }, [supabase, video_id, database]);
  if (entries === "failed") return <p>It could not be read. Close this, and try again.</p>;
  if (!entries) return <p className="muted">Reading …</p>;
  if (entries.length === 0) return <p className="muted">Nobody yet.</p>;
  return (
    <ol className="history">
      {entries.map((entry) => (
        <li key={entry.lock_id}>
          <Face name={entry.holder_name} picture={entry.holder_picture} size={30} />
          <p>
            <strong>{entry.holder_name}</strong>{" "}
            <span className="muted">
              {clock(entry.locked_at)}, for {span(
                (Date.parse(entry.ended_at) - Date.parse(entry.locked_at)) / 1000,
              )}
            </span>
            <span className="detail">{endedHow(entry.end_reason, entry.ended_by)}</span>
          </p>
        </li>
      ))}
    </ol>
  );
}
