/// <reference lib="dom" />
import { Button, Input, TextArea, TextField } from "react-aria-components";
import { captionsOf, timecode } from "./databases.ts";
import type { InUse } from "./use_editing.ts";

/** The captions of a video. Read-only unless it is one's turn. */
export function CaptionsForm({ inUse: { editing, state }, shown, onShow }: {
  inUse: InUse;
  /** The caption in the preview. */
  shown: string | null;
  onShow: (id: string) => void;
}) {
  const isEditing = state.phase === "editing";
  const doc = (isEditing ? state.mine : state.mine ?? state.now) ?? {};
  const captions = captionsOf(doc);
  const set = (more: Record<string, string>) => editing.change({ ...state.mine, ...more });
  const remove = (id: string) => {
    const { [`${id}.text`]: _text, [`${id}.at`]: _at, ...rest } = state.mine!;
    editing.change(rest);
  };
  const add = () => {
    const id = crypto.randomUUID();
    const at = Number(captions.at(-1)?.at ?? -5) + 5;
    set({ [`${id}.at`]: String(at), [`${id}.text`]: "" });
    onShow(id);
  };
  if (!state.now) return <p className="muted">Reading …</p>;
  return (
    <>
      <ol className="caption-list">
        {captions.map(({ id, at, text }) => (
          <li key={id} className={id === shown ? "caption shown" : "caption"}>
            <TextField
              className="time"
              aria-label={`Time of the caption at ${timecode(at)}, in seconds`}
              value={at}
              isReadOnly={!isEditing}
              onFocus={() =>
                onShow(id)}
              onChange={(value) =>
                /^\d{0,4}(\.\d?)?$/.test(value) && set({ [`${id}.at`]: value })}
            >
              <Input inputMode="decimal" />
            </TextField>
            <TextField
              className="text"
              aria-label={`Caption at ${timecode(at)}`}
              value={text}
              isReadOnly={!isEditing}
              onFocus={() => onShow(id)}
              onChange={(value) => set({ [`${id}.text`]: value })}
            >
              <TextArea rows={1} />
            </TextField>
            {isEditing && (
              <Button
                className="quiet remove"
                aria-label={`Remove the caption at ${timecode(at)}`}
                onPress={() => remove(id)}
              >
                ×
              </Button>
            )}
          </li>
        ))}
      </ol>
      {isEditing && <Button className="quiet add" onPress={add}>+ Add a caption</Button>}
    </>
  );
}
