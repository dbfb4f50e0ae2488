/// <reference lib="dom" />
import { VIDEOS } from "../demo/world.ts";

/**
 * The colours of a video's still.
 *
 * @param video_id The video.
 * @returns The name of a theme.
 */
export function themeOf(video_id: string): string {
  return VIDEOS.find(({ id }) => id === video_id)?.layout.theme ?? "daylight";
}
