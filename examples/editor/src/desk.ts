/// <reference lib="dom" />
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { createContext, useContext, useSyncExternalStore } from "react";
import { createLockClient } from "../../../client/mod.ts";
import { PASSWORD, PEOPLE, type Person } from "../demo/world.ts";
import { Board, type BoardState } from "./board.ts";
import { Drafts } from "./drafts.ts";
import type { Desk } from "./editing.ts";

declare global {
  interface ImportMeta {
    /** Vite's. */
    env: { VITE_SUPABASE_URL: string; VITE_SUPABASE_PUBLISHABLE_KEY: string };
  }
}

/** A desk, and whose. */
export interface OpenDesk extends Desk {
  person: Person;
  isAdmin: boolean;
}

/** The desk of the page. */
export const DeskContext = createContext<OpenDesk | null>(null);

/** The desk of the page. */
export function useDesk(): OpenDesk {
  return useContext(DeskContext)!;
}

/** What is known of all locks. */
export function useBoard(): BoardState {
  const { board } = useDesk();
  return useSyncExternalStore(
    (changed) => {
      board.addEventListener("change", changed);
      return () => board.removeEventListener("change", changed);
    },
    () => board.state,
  );
}

/**
 * Signs a demo user in, and opens their desk. Each demo user has a session of their own, so that two of them fit into one browser:
 * the address says who a tab belongs to.
 *
 * @param key Which one.
 * @returns The desk.
 */
export function openDesk(key: string): Promise<OpenDesk> {
  return opened ??= open(key); // one a page: StrictMode asks twice
}

let opened: Promise<OpenDesk> | undefined;

async function open(key: string): Promise<OpenDesk> {
  const person = PEOPLE.find((person) => person.key === key);
  if (!person) throw new Error(`There is nobody called ${key} here.`);
  const { VITE_SUPABASE_URL: url, VITE_SUPABASE_PUBLISHABLE_KEY: publishableKey } = import.meta.env;
  const supabase = createClient(url, publishableKey, { auth: { storageKey: `editor-${key}` } });
  const me = await signIn(supabase, person.email);
  const { data } = await supabase.from("tenant_members").select("role").throwOnError();
  const settings = new URLSearchParams(location.search);
  const number = (name: string, standard: number) => Number(settings.get(name)) || standard;
  return {
    person,
    isAdmin: data.some(({ role }) => role === "admin"),
    supabase,
    locks: createLockClient(supabase),
    board: new Board(supabase),
    drafts: new Drafts(me),
    me,
    // a hidden tab's timers run once a minute: a shorter lease would not outlive that
    ttlSeconds: number("ttl", 180),
    idleSeconds: number("idle", 300),
  };
}

async function signIn(supabase: SupabaseClient, email: string): Promise<string> {
  const { data: { user } } = await supabase.auth.getUser();
  if (user) return user.id;
  const { data, error } = await supabase.auth.signInWithPassword({ email, password: PASSWORD });
  if (error) throw new Error("Signing in did not work. Does the demo run?");
  return data.user.id;
}

/**
 * Gives back what is held, and signs out.
 *
 * @param desk Whose.
 */
export async function closeDesk({ locks, supabase }: OpenDesk): Promise<void> {
  await locks.releaseAll();
  await supabase.auth.signOut({ scope: "local" });
  location.href = location.pathname;
}
