/// <reference lib="dom" />
// @ts-types="@types/react"
import { useEffect } from "react";
import { Button } from "react-aria-components";
import { PEOPLE } from "../demo/world.ts";
import { announce } from "./announce.ts";
import { closeDesk, useBoard, useDesk } from "./desk.ts";
import { Face, Logo } from "./pictures.tsx";
import { clock } from "./words.ts";

/** Whose page it is, and how to be somebody else. */
export function Header() {
  const desk = useDesk();
  const { person, isAdmin } = desk;
  return (
    <header className="top">
      <a className="brand" href="#">
        <Logo /> <span>Holdfast editor</span>
      </a>
      <nav aria-label="Other people">
        {PEOPLE.filter(({ key }) => key !== person.key).map(({ key, name, picture }) => (
          <a
            key={key}
            className="quiet-link"
            href={`?as=${key}${location.hash}`}
            target="_blank"
            rel="noreferrer"
          >
            <Face name={name} picture={picture} size={22} />
            <span>
              Open as {name}
              <span className="visually-hidden">, in a new window</span>
            </span>
          </a>
        ))}
      </nav>
      <div className="me">
        <Face name={person.name} picture={person.picture} size={32} />
        <span>
          <strong>{person.name}</strong>
          {isAdmin && <span className="muted">Administrator</span>}
        </span>
        <Button className="quiet" onPress={() => closeDesk(desk)}>Sign out</Button>
      </div>
    </header>
  );
}

/** Says that the page does not hear anything: what it shows may be old. */
export function TroubleBar() {
  const { troubleSince } = useBoard();
  useEffect(() => {
    if (!troubleSince) return;
    announce("No connection. What you see may be old.");
    return () => announce("Connected again.");
  }, [troubleSince]);
  if (!troubleSince) return null;
  return (
    <p className="trouble-bar">
      <strong>No connection.</strong> You see what was true at {clock(troubleSince)}. Trying again …
    </p>
  );
}
