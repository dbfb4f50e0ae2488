/// <reference lib="dom" />
import type { Doc } from "./doc.ts";
import { Scene } from "./pictures.tsx";
import { themeOf } from "./themes.ts";

/** How the video looks with its layout and one of its captions. */
export function Preview(
  { video_id, tenant, layout, caption }: {
    video_id: string;
    tenant: string;
    layout: Doc;
    caption: string;
  },
) {
  return (
    <figure className="preview" aria-label="Preview">
      <Scene seed={video_id} theme={layout.theme ?? themeOf(video_id)} />
      {layout.logo === "true" && <span className="film-logo">◍ {tenant}</span>}
      <p className={`film-heading ${layout.position ?? "top"}`}>{layout.heading}</p>
      {caption && <p className="film-caption">{caption}</p>}
    </figure>
  );
}
