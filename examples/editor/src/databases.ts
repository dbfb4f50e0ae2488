/// <reference lib="dom" />
import type { SupabaseClient } from "@supabase/supabase-js";
import type { Lease } from "../../../client/mod.ts";
import { changedKeys, type Doc } from "./doc.ts";

/** One kind of database: how it is read, and how what was changed is written under a lease. */
export interface Database {
  name: "captions" | "layout";
  title: string;
  read(supabase: SupabaseClient, video_id: string): Promise<Doc>;
  /** Writes what differs. The database refuses it once the lease is lost. */
  write(
    supabase: SupabaseClient,
    lease: Lease,
    video_id: string,
    from: Doc,
    to: Doc,
  ): Promise<void>;
  /** What a person calls a key. */
  label(key: string, doc: Doc): string;
}

/** The captions' keys are `ID.text` and `ID.at`. */
export interface Caption {
  id: string;
  at: string;
  text: string;
}

/**
 * The captions of a version.
 *
 * @param doc The version.
 * @returns Captions in the order of their time.
 */
export function captionsOf(doc: Doc): Caption[] {
  return Object.keys(doc).filter((key) => key.endsWith(".text"))
    .map((key) => key.slice(0, -".text".length))
    .map((id) => ({ id, at: doc[`${id}.at`] ?? "0", text: doc[`${id}.text`]! }))
    .sort((a, b) => Number(a.at) - Number(b.at) || a.id.localeCompare(b.id));
}

/**
 * A time in a video, as a person reads it.
 *
 * @param seconds Seconds from its beginning.
 */
export function timecode(seconds: string): string {
  const tenths = Math.round(Number(seconds) * 10) || 0;
  const rest = tenths % 600;
  return `${Math.floor(tenths / 600)}:${String(Math.floor(rest / 10)).padStart(2, "0")}.${
    rest % 10
  }`;
}

const captions: Database = {
  name: "captions",
  title: "Captions",
  async read(supabase, video_id) {
    const { data } = await supabase.from("captions").select("id,starts_at,text")
      .eq("video_id", video_id).throwOnError();
    return Object.fromEntries(
      data.flatMap(({ id, starts_at, text }) => [
        [`${id}.at`, String(Number(starts_at))],
        [`${id}.text`, text],
      ]),
    );
  },
  async write(supabase, lease, video_id, from, to) {
    const ids = [...new Set(changedKeys(from, to).map((key) => key.split(".")[0]!))];
    const rows = captionsOf(to).filter(({ id }) => ids.includes(id))
      .map(({ id, at, text }) => ({ video_id, id, starts_at: Number(at), text }));
    const gone = ids.filter((id) => to[`${id}.text`] === undefined);
    if (rows.length) await lease.guard(supabase.from("captions").upsert(rows)).throwOnError();
    if (gone.length) {
      await lease.guard(
        supabase.from("captions").delete().eq("video_id", video_id).in("id", gone),
      ).throwOnError();
    }
  },
  label(key, doc) {
    const [id, what] = key.split(".");
    return `${what === "at" ? "Time of the caption" : "Caption"} at ${
      timecode(doc[`${id}.at`] ?? "0")
    }`;
  },
};

const LABELS: Record<string, string> = {
  heading: "Heading",
  position: "Position of the heading",
  theme: "Colours",
  logo: "Logo",
};

const layout: Database = {
  name: "layout",
  title: "Layout",
  async read(supabase, video_id) {
    const { data } = await supabase.from("layout").select("heading,position,theme,logo")
      .eq("video_id", video_id).throwOnError();
    return { ...data[0], logo: String(data[0]?.logo ?? true) };
  },
  async write(supabase, lease, video_id, _from, to) {
    const { heading, position, theme, logo } = to;
    const row = { video_id, heading, position, theme, logo: logo === "true" };
    await lease.guard(supabase.from("layout").upsert(row)).throwOnError();
  },
  label: (key) => LABELS[key] ?? key,
};

/** The databases of a video, as this page edits them. */
export const DATABASES = { captions, layout } as const;
