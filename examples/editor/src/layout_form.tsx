/// <reference lib="dom" />
import { Input, Label, Radio, RadioGroup, Switch, TextField } from "react-aria-components";
import type { InUse } from "./use_editing.ts";

/** The layout of a video. Read-only unless it is one's turn. */
export function LayoutForm({ inUse: { editing, state } }: { inUse: InUse }) {
  const isEditing = state.phase === "editing";
  const doc = state.mine ?? state.now;
  if (!doc) return <p className="muted">Reading …</p>;
  const set = (key: string) => (value: string) => editing.change({ ...state.mine, [key]: value });
  return (
    <div className="layout-fields">
      <TextField value={doc.heading ?? ""} isReadOnly={!isEditing} onChange={set("heading")}>
        <Label>Heading</Label>
        <Input />
      </TextField>
      <Choice
        label="Position"
        value={doc.position}
        options={{ top: "Top", centre: "Centre", bottom: "Bottom" }}
        isReadOnly={!isEditing}
        onChange={set("position")}
      />
      <Choice
        label="Colours"
        value={doc.theme}
        options={{ daylight: "Daylight", sunset: "Sunset", midnight: "Midnight" }}
        isReadOnly={!isEditing}
        onChange={set("theme")}
      />
      <Switch
        className="switch"
        isSelected={doc.logo === "true"}
        isReadOnly={!isEditing}
        onChange={(isOn) => set("logo")(String(isOn))}
      >
        <span className="switch-track" /> Show the logo
      </Switch>
    </div>
  );
}

function Choice({ label, value, options, isReadOnly, onChange }: {
  label: string;
  value: string | undefined;
  options: Record<string, string>;
  isReadOnly: boolean;
  onChange: (value: string) => void;
}) {
  return (
    <RadioGroup
      className="choice"
      value={value ?? null}
      isReadOnly={isReadOnly}
      onChange={onChange}
    >
      <Label>{label}</Label>
      <div className="segments">
        {Object.entries(options).map(([key, name]) => (
          <Radio key={key} value={key} className="segment">{name}</Radio>
        ))}
      </div>
    </RadioGroup>
  );
}
