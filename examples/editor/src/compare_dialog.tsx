/// <reference lib="dom" />
// @ts-types="@types/react"
import { useState } from "react";
import { Button, Checkbox, DialogTrigger } from "react-aria-components";
import { announce } from "./announce.ts";
import type { BoardRow } from "./board.ts";
import type { Database } from "./databases.ts";
import { type Change, compare } from "./doc.ts";
import type { Draft } from "./drafts.ts";
import { Window } from "./modal.tsx";
import type { InUse } from "./use_editing.ts";

interface Props {
  draft: Draft;
  inUse: InUse;
  row: BoardRow;
  database: Database;
}

/** What was typed and not saved, beside what is there now; and the way to take it up again. */
export function CompareDialog(props: Props) {
  return (
    <DialogTrigger>
      <Button className="primary">Compare and take up again</Button>
      <Window title="What you typed, and what is there now">
        {(close) => <Comparison {...props} close={close} />}
      </Window>
    </DialogTrigger>
  );
}

function Comparison({ draft, inUse, row, database, close }: Props & { close: () => void }) {
  const { editing, state } = inUse;
  const [without, setWithout] = useState<readonly string[]>([]);
  const now = state.mine ?? state.now ?? draft.base;
  const changes = compare(draft.base, draft.mine, now);
  const chosen = changes.filter(({ key }) => !without.includes(key));
  const mustWait = row.holder_id !== null && state.phase !== "editing";
  const choose = (key: string) => (isChosen: boolean) =>
    setWithout(isChosen ? without.filter((other) => other !== key) : [...without, key]);
  const copy = async () => {
    const text = changes.map(({ mine }) => mine ?? "").join("\n");
    await navigator.clipboard.writeText(text).then(
      () => announce("Copied."),
      () => announce("The browser does not allow it. Select the text, and copy it."),
    );
  };
  return (
    <>
      <ul className="changes">
        {changes.map((change) => (
          <ChangeItem
            key={change.key}
            change={change}
            label={database.label(change.key, { ...draft.base, ...draft.mine })}
            isChosen={chosen.includes(change)}
            onChoose={choose(change.key)}
          />
        ))}
      </ul>
      {changes.length === 0 && <p>Everything you typed is there.</p>}
      <div className="actions end">
        <Button className="quiet" onPress={copy}>Copy my text</Button>
        <Button className="secondary" onPress={close}>Later</Button>
        <Button
          className="primary"
          isDisabled={chosen.length === 0}
          onPress={() => {
            close();
            editing.takeUp(draft, chosen);
          }}
        >
          {mustWait ? "Put mine in when it is my turn" : "Put mine in"}
        </Button>
      </div>
    </>
  );
}

function ChangeItem({ change, label, isChosen, onChoose }: {
  change: Change;
  label: string;
  isChosen: boolean;
  onChoose: (isChosen: boolean) => void;
}) {
  const { mine, now, isConflict } = change;
  return (
    <li className={isConflict ? "change conflict" : "change"}>
      <Checkbox className="checkbox" isSelected={isChosen} onChange={onChoose}>
        <span className="box" aria-hidden="true" /> {label}
        {isConflict && <span className="badge">changed by somebody else, too</span>}
      </Checkbox>
      <dl>
        <div>
          <dt>Yours</dt>
          <dd>{mine === undefined ? <em>removed</em> : mine || <em>empty</em>}</dd>
        </div>
        <div>
          <dt>Now</dt>
          <dd>{now === undefined ? <em>not there</em> : now || <em>empty</em>}</dd>
        </div>
      </dl>
    </li>
  );
}
