/// <reference lib="dom" />
// @ts-types="@types/react"
import { useState } from "react";
import { Button, DialogTrigger } from "react-aria-components";
import type { BoardRow } from "./board.ts";
import type { Database } from "./databases.ts";
import { Window } from "./modal.tsx";
import type { InUse } from "./use_editing.ts";

/** An administrator ends somebody's editing, after a dialog that says what that does. */
export function ForceDialog(
  { inUse: { editing }, row, database }: { inUse: InUse; row: BoardRow; database: Database },
) {
  // as it was when the question was asked: somebody else may have the lock before it is answered
  const [{ holder_name: name, holder_type, lock_id }, setTarget] = useState(row);
  const isWorker = holder_type === "server";
  return (
    <DialogTrigger onOpenChange={(isOpen) => isOpen && setTarget(row)}>
      <Button className="quiet danger">End by force …</Button>
      <Window title={`End what ${name} is doing?`} role="alertdialog">
        {(close) => (
          <>
            <p>
              {isWorker
                ? `${name} is stopped in the middle of its work on the ${database.name}, and may have to begin again.`
                : `${name} can save nothing more in the ${database.name}. What was not saved yet stays in ${name}’s browser. ${name} sees that it was you.`}
            </p>
            <p>The first in line gets the turn.</p>
            <div className="actions end">
              <Button className="secondary" autoFocus onPress={close}>Cancel</Button>
              <Button
                className="danger-fill"
                onPress={() => {
                  close();
                  editing.endByForce(lock_id!);
                }}
              >
                End by force
              </Button>
            </div>
          </>
        )}
      </Window>
    </DialogTrigger>
  );
}
