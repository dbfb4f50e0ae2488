/// <reference lib="dom" />
// @ts-types="@types/react"
import { type ReactNode, useEffect, useState } from "react";
import { Button } from "react-aria-components";
import { announce } from "./announce.ts";
import type { BoardRow, Waiter } from "./board.ts";
import { CompareDialog } from "./compare_dialog.tsx";
import type { Database } from "./databases.ts";
import { useDesk } from "./desk.ts";
import type { Draft } from "./drafts.ts";
import type { InUse } from "./use_editing.ts";
import { clock, listed, lostBecause, span } from "./words.ts";

interface Props {
  inUse: InUse;
  row: BoardRow;
  database: Database;
}

/** What was lost, or is kept from before: it comes first. */
export function LossBanners({ inUse, row, database }: Props) {
  const { loss, drafts: [draft] } = inUse.state;
  if (loss) return <LossBanner inUse={inUse} row={row} database={database} />;
  if (!draft) return null;
  return <DraftBanner draft={draft} inUse={inUse} row={row} database={database} />;
}

/** What else has to be said about one database just now. */
export function Banners({ inUse, row, database }: Props) {
  const { state, editing } = inUse;
  return (
    <>
      {state.inDoubtUntil && <DoubtBanner until={state.inDoubtUntil} />}
      {state.trouble && <Banner tone="warn">{state.trouble}</Banner>}
      {state.phase === "editing" && <Waiters inUse={inUse} row={row} database={database} />}
      {state.isIdle && <IdleBanner inUse={inUse} row={row} database={database} />}
      {state.phase === "asking" && editing.isResuming && (
        <Banner tone="note">What you typed goes in as soon as it is your turn.</Banner>
      )}
    </>
  );
}

function Banner(
  { tone, children, actions }: {
    tone: "note" | "warn" | "danger";
    children: ReactNode;
    actions?: ReactNode;
  },
) {
  return (
    <div className={`banner ${tone}`}>
      <p>{children}</p>
      {actions && <div className="actions">{actions}</div>}
    </div>
  );
}

function LossBanner({ inUse, row, database }: Props) {
  const { editing, state } = inUse;
  const { reason, by, at, lockId } = state.loss!;
  const draft = state.drafts.find(({ id }) => id === lockId);
  return (
    <Banner
      tone="danger"
      actions={draft
        ? <DraftActions draft={draft} inUse={inUse} row={row} database={database} />
        : (
          <Button className="secondary" onPress={() => editing.dismissLoss()}>
            Understood
          </Button>
        )}
    >
      <strong>{lostBecause(reason, by, at)}</strong> {draft
        ? "What you typed last could not be saved any more. It is kept in this browser."
        : "Everything you had typed was saved."}
    </Banner>
  );
}

function DraftBanner({ draft, ...props }: Props & { draft: Draft }) {
  return (
    <Banner tone="warn" actions={<DraftActions draft={draft} {...props} />}>
      <strong>You have changes that were not saved,</strong> from{" "}
      {clock(draft.at)}. They are kept in this browser.
    </Banner>
  );
}

function DraftActions({ draft, inUse, row, database }: Props & { draft: Draft }) {
  const [isSure, setIsSure] = useState(false);
  return (
    <>
      <CompareDialog draft={draft} inUse={inUse} row={row} database={database} />
      <Button
        className="quiet"
        onPress={() => isSure ? inUse.editing.discard(draft) : setIsSure(true)}
        onBlur={() => setIsSure(false)}
      >
        {isSure ? "Really throw it away" : "Throw away"}
      </Button>
    </>
  );
}

function DoubtBanner({ until }: { until: number }) {
  return (
    <Banner tone="warn">
      <strong>Connection trouble.</strong> It is your turn for <Countdown until={until} />{" "}
      still. What you type is kept in this browser.
    </Banner>
  );
}

/** Outside of the live region: it would be read out without end. */
function Countdown({ until }: { until: number }) {
  const [left, setLeft] = useState(() => until - performance.now());
  useEffect(() => {
    const timer = setInterval(() => setLeft(until - performance.now()), 1000);
    return () => clearInterval(timer);
  }, [until]);
  return <span className="countdown">{span(left / 1000)}</span>;
}

function IdleBanner({ inUse: { editing }, row }: Props) {
  const { idleSeconds } = useDesk();
  const who = row.waiting.length
    ? `${listed(row.waiting.map(({ name }) => name))} will get the turn now.`
    : "If somebody wants to edit, the turn passes on.";
  return (
    <Banner
      tone="note"
      actions={
        <Button className="secondary" onPress={() => editing.touch()}>I am still here</Button>
      }
    >
      <strong>Are you still there?</strong> Nobody has typed for {span(idleSeconds)}. {who}
    </Banner>
  );
}

/** Those who have asked to be let in. That somebody waits is said once. */
function Waiters({ inUse: { editing }, row, database }: Props) {
  const asking = row.waiting.filter(({ asked_at, declined_at }) => asked_at && !declined_at);
  useAnnounced(row.waiting, asking, database);
  if (asking.length === 0) return null;
  const names = listed(asking.map(({ name }) => name));
  return (
    <Banner
      tone="note"
      actions={
        <>
          <Button className="primary" onPress={() => editing.stop()}>Hand over</Button>
          <Button className="secondary" onPress={() => editing.decline()}>Not yet</Button>
        </>
      }
    >
      <strong>{names} {asking.length > 1 ? "ask" : "asks"} you to hand over.</strong>{" "}
      Handing over saves first.
    </Banner>
  );
}

function useAnnounced(waiting: Waiter[], asking: Waiter[], { name }: Database): void {
  const wait = listed(waiting.map(({ name }) => name));
  const ask = listed(asking.map(({ name }) => name));
  useEffect(() => {
    if (ask) announce(`${ask} asks you to hand over the ${name}.`);
    else if (wait) announce(`Waiting for the ${name}: ${wait}.`);
  }, [ask, wait, name]);
}
