/// <reference lib="dom" />
import { Button } from "react-aria-components";
import type { BoardRow } from "./board.ts";
import type { Database } from "./databases.ts";
import { useBoard, useDesk } from "./desk.ts";
import { ForceDialog } from "./force_dialog.tsx";
import { Face, LeaseRing, Padlock, type Tone } from "./pictures.tsx";
import type { InUse } from "./use_editing.ts";
import { toneOf } from "./video_list.tsx";
import { clock, listed, ordinal, span } from "./words.ts";

/** Longer than this without a key, and a holder is called quiet. In seconds. */
const QUIET_SECONDS = 90;

/** Who has the lock, since when, and who waits; and what one can do about it. */
export function LockBar({ inUse, row, database }: {
  inUse: InUse;
  row: BoardRow;
  database: Database;
}) {
  const { me } = useDesk();
  const { phase } = inUse.state;
  const isMine = phase === "editing" || phase === "stopping";
  const tone = isMine ? "mine" : row.holder_id === me ? "other" : toneOf(row, me);
  return (
    <div className={`lock-bar ${tone}`}>
      <Holder inUse={inUse} row={row} tone={tone} />
      <div className="actions">
        {isMine
          ? <StopButton inUse={inUse} />
          : <Choices inUse={inUse} row={row} database={database} />}
      </div>
      <Line row={row} me={me} />
    </div>
  );
}

function Holder({ inUse, row, tone }: { inUse: InUse; row: BoardRow; tone: Tone }) {
  const { me, person, ttlSeconds } = useDesk();
  const { askedAt } = useBoard();
  const { lockId } = inUse.state;
  // granted a moment ago: the board does not say so yet
  const isNew = lockId !== null && row.lock_id !== lockId;
  const [sentence, detail] = isNew || lockId ? mineInWords(inUse) : inWords(inUse, row, me);
  return (
    <div className="holder">
      {row.holder_id || isNew
        ? (
          <LeaseRing
            tone={tone}
            isLocked={tone !== "mine"}
            name={isNew ? person.name : row.holder_name!}
            picture={isNew ? person.picture : row.holder_picture}
            secondsLeft={isNew ? ttlSeconds : row.seconds_left!}
            ttl={isNew ? ttlSeconds : row.ttl_seconds!}
            heardAt={askedAt}
          />
        )
        : (
          <span className="ring-empty">
            <Padlock isOpen />
          </span>
        )}
      <p>
        <strong>{sentence}</strong>
        {detail && <span className="detail">{detail}</span>}
      </p>
    </div>
  );
}

type Words = [sentence: string, detail?: string];

/** My own turn, in this tab. */
function mineInWords({ state: { phase, saving, savedAt, since } }: InUse): Words {
  if (phase === "stopping") return ["Stopping …", "The last changes are being saved."];
  const sentence = `You have been editing since ${clock(since ?? Date.now())}`;
  if (saving === "failing") {
    return [sentence, "Not saved. What you type is kept in this browser; trying again …"];
  }
  if (saving !== "saved") return [sentence, "Saving …"];
  return [sentence, savedAt ? `All changes saved, ${clock(savedAt)}` : "Saved as you type"];
}

/** Not my turn, or not in this tab. */
function inWords({ state, position }: InUse, row: BoardRow, me: string): Words {
  const holder = holderInWords(row, me);
  if (state.phase !== "asking") return holder;
  if (position) return [`You are ${ordinal(position)} in line`, row.holder_id ? holder[0] : ""];
  return ["Asking for your turn …"];
}

function holderInWords(row: BoardRow, me: string): Words {
  if (!row.holder_id) {
    const [next] = row.waiting;
    if (next) return [`${next.id === me ? "You have" : `${next.name} has`} the next turn`];
    return ["Free to edit", row.saved_at ? `Last saved at ${clock(row.saved_at)}` : ""];
  }
  const since = clock(row.locked_at!);
  if (row.holder_type === "server") {
    return [
      `${row.holder_name} has been processing this since ${since}`,
      "No person: it ends by itself. Read-only meanwhile.",
    ];
  }
  if (row.holder_id === me) return [`You are editing in another tab, since ${since}`];
  const quiet = row.seconds_idle ?? 0;
  return [
    `${row.holder_name} has been editing since ${since}`,
    quiet > QUIET_SECONDS
      ? `Quiet for ${span(quiet)}. Read-only for you meanwhile.`
      : "Read-only for you. You see each save.",
  ];
}

function StopButton({ inUse: { editing, state } }: { inUse: InUse }) {
  const isStopping = state.phase === "stopping";
  return (
    <Button className="secondary" isDisabled={isStopping} onPress={() => editing.stop()}>
      Stop editing
    </Button>
  );
}

/** What one can do about a lock that one does not hold in this tab. */
function Choices({ inUse, row, database }: { inUse: InUse; row: BoardRow; database: Database }) {
  const { me, isAdmin } = useDesk();
  const { editing, state } = inUse;
  const isAsking = state.phase === "asking";
  const isFree = !row.holder_id && row.waiting.every(({ id }) => id === me);
  const isOthers = row.holder_id !== null && row.holder_id !== me;
  return (
    <>
      {isAsking
        ? (
          <Button className="secondary" onPress={() => editing.leaveLine()}>
            {inUse.position ? "Leave the line" : "Never mind"}
          </Button>
        )
        : (
          <Button
            className={row.holder_id === me ? "secondary" : "primary"}
            onPress={() => editing.edit()}
          >
            {isFree ? "Edit" : "Wait for my turn"}
          </Button>
        )}
      {isOthers && row.holder_type === "client" && <Wish inUse={inUse} row={row} />}
      {row.holder_id === me && <TakeOver inUse={inUse} />}
      {isAdmin && isOthers && <ForceDialog inUse={inUse} row={row} database={database} />}
    </>
  );
}

function TakeOver({ inUse: { editing } }: { inUse: InUse }) {
  return (
    <>
      <Button className="secondary" onPress={() => editing.edit("take over")}>
        Take over from my other tab
      </Button>
      <p className="consequence">
        The other tab becomes read-only at once. What it has not saved by then is kept, and you can
        put it in here.
      </p>
    </>
  );
}

/** Asking to be let in, and what became of it. */
function Wish({ inUse: { editing }, row }: { inUse: InUse; row: BoardRow }) {
  const { me } = useDesk();
  const mine = row.waiting.find(({ id }) => id === me);
  if (mine?.declined_at) {
    return <p className="answer">{row.holder_name} needs a little longer.</p>;
  }
  if (mine?.asked_at) {
    return <p className="answer">You asked {row.holder_name} at {clock(mine.asked_at)}.</p>;
  }
  return (
    <Button className="secondary" onPress={() => editing.askToHandOver()}>
      Ask to hand over
    </Button>
  );
}

/** Who waits, in their order. */
function Line({ row: { waiting }, me }: { row: BoardRow; me: string }) {
  if (waiting.length === 0) return null;
  const names = waiting.map(({ id, name }) => id === me ? "you" : name);
  return (
    <div className="line">
      <span className="faces">
        {waiting.slice(0, 5).map(({ position, name, picture }) => (
          <Face key={position} name={name} picture={picture} size={22} />
        ))}
      </span>
      <span>Waiting: {listed(names.slice(0, 5))}</span>
    </div>
  );
}
