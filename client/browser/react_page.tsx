// Runs in Chromium: a component that holds a lock while it is mounted, under StrictMode.
import { createClient } from "@supabase/supabase-js";
// @ts-types="@types/react"
import { StrictMode, useState } from "react";
// @ts-types="@types/react-dom/client"
import { createRoot } from "react-dom/client";
import { useLock } from "../../examples/react/use_lock.ts";
import { createLockClient, type LockClient } from "../mod.ts";
import type { Start } from "./page.ts";

// deno-lint-ignore no-explicit-any
const page = globalThis as any; // the checker knows of no document here

function Editor({ locks, video_id }: { locks: LockClient; video_id: string }) {
  const [key] = useState({ video_id, database_name: "layout" });
  const lease = useLock(locks, key);
  return <p id="state">{lease ? `held with ${lease.fencingToken}` : "not held"}</p>;
}

Object.assign(globalThis, {
  mount({ url, key, token }: Start, video_id: string) {
    const supabase = createClient(url, key, { accessToken: () => Promise.resolve(token!) });
    const locks = createLockClient(supabase);
    const root = createRoot(page.document.getElementById("root"));
    root.render(
      <StrictMode>
        <Editor locks={locks} video_id={video_id} />
      </StrictMode>,
    );
    Object.assign(globalThis, { unmount: () => root.unmount() });
  },
});
