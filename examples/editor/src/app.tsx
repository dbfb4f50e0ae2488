/// <reference lib="dom" />
// @ts-types="@types/react"
import { useEffect, useState, useSyncExternalStore } from "react";
import { PEOPLE } from "../demo/world.ts";
import { onAnnouncement } from "./announce.ts";
import { Face, Logo } from "./pictures.tsx";
import { DeskContext, type OpenDesk, openDesk } from "./desk.ts";
import { Header, TroubleBar } from "./header.tsx";
import { VideoList } from "./video_list.tsx";
import { VideoPage } from "./video_page.tsx";

/** The whole page. */
export function App() {
  const as = new URLSearchParams(location.search).get("as");
  return as ? <SignedIn as={as} /> : <Welcome />;
}

function Welcome() {
  return (
    <main className="welcome">
      <Logo />
      <h1>Who are you?</h1>
      <p>
        A demo of leased locks. Open it as two people, in two windows, and edit the same video.
      </p>
      <ul className="people">
        {PEOPLE.map(({ key, name, picture, roles }) => (
          <li key={key}>
            <a href={`?as=${key}`} className="person">
              <Face name={name} picture={picture} size={64} />
              <strong>{name}</strong>
              <span className="muted">
                {Object.values(roles).includes("admin")
                  ? "Administrator"
                  : Object.keys(roles).length > 1
                  ? "Works for two tenants"
                  : "Editor"}
              </span>
            </a>
          </li>
        ))}
      </ul>
    </main>
  );
}

function SignedIn({ as }: { as: string }) {
  const [desk, setDesk] = useState<OpenDesk | null>(null);
  const [error, setError] = useState<Error | null>(null);
  useEffect(() => {
    let isOver = false;
    openDesk(as).then((desk) => isOver || setDesk(desk), (error) => isOver || setError(error));
    return () => void (isOver = true);
  }, [as]);
  useEffect(() => desk?.board.start(), [desk]);
  if (error) {
    return (
      <main className="welcome">
        <h1>That did not work</h1>
        <p>{error.message}</p>
        <p>
          <a href={location.href}>Try again</a> or <a href="?">choose somebody else</a>.
        </p>
      </main>
    );
  }
  if (!desk) return <main className="welcome" aria-busy="true">Signing in …</main>;
  return (
    <DeskContext value={desk}>
      <Header />
      <TroubleBar />
      <Route />
      <LiveRegion />
    </DeskContext>
  );
}

function Route() {
  const hash = useSyncExternalStore((changed) => {
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, () => location.hash);
  const video_id = /^#video=([\w-]+)$/.exec(hash)?.[1];
  return video_id ? <VideoPage key={video_id} video_id={video_id} /> : <VideoList />;
}

/** The one live region of the page. */
function LiveRegion() {
  const [text, setText] = useState("");
  useEffect(() => onAnnouncement(setText), []);
  return <p className="visually-hidden" role="status" aria-live="polite">{text}</p>;
}
