import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { StackError } from "./stack_error.ts";

/** What the other commands know of a running stack. */
export interface StackState {
  pid: number;
  url: string;
  publishableKey: string;
  secretKey: string;
  dbUrl: string;
}

/**
 * The folder that one stack keeps its data in. The stack holds a lock of the operating system on a file
 * in it, and such a lock ends with its process however that ends: a folder that a killed stack left behind is free.
 */
export class DataFolder {
  readonly #file: Deno.FsFile;

  private constructor(readonly path: string, file: Deno.FsFile) {
    this.#file = file;
  }

  /**
   * Takes a data folder, creating it when needed.
   *
   * @param path The folder.
   * @throws {StackError} When a stack runs on it, or it cannot be made or belongs to someone else.
   */
  static async take(path: string): Promise<DataFolder> {
    const file = await DataFolder.#open(path);
    // the other commands hold the lock for an instant when they look whether it is free
    for (let attempt = 0; attempt < 5; attempt++) {
      if (await file.tryLock(true)) {
        await Deno.remove(join(path, STATE)).catch(ignoreNotFound); // of a stack that was killed
        return new DataFolder(path, file);
      }
      await delay(50);
    }
    file.close();
    const state = await DataFolder.state(path);
    throw new StackError(
      `A stack runs on ${path} already${state ? ` (${state.url}, process ${state.pid})` : ""}. ` +
        "End it with the stop command, or give this one another folder with --data.",
    );
  }

  static async #open(path: string): Promise<Deno.FsFile> {
    try {
      await Deno.mkdir(path, { recursive: true, mode: 0o700 });
      return await Deno.open(join(path, LOCK), { create: true, write: true, mode: 0o600 });
    } catch (error) {
      const why = error instanceof Error ? error.message : error;
      throw new StackError(
        `The data folder ${path} cannot be used: ${why}. Choose another one with --data.`,
      );
    }
  }

  /**
   * Looks at the stack that runs on a data folder.
   *
   * @param path The folder.
   * @returns Its state, or `null` when none runs or the one that does has not finished starting.
   */
  static async state(path: string): Promise<StackState | null> {
    if (!await DataFolder.taken(path)) return null;
    try {
      return JSON.parse(await Deno.readTextFile(join(path, STATE)));
    } catch {
      return null;
    }
  }

  /** Whether a stack runs on the folder, also one that is starting or ending. */
  static async taken(path: string): Promise<boolean> {
    try {
      using file = await Deno.open(join(path, LOCK), { write: true });
      return !await file.tryLock(false);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  /** Where a part of the stack keeps its own data. */
  file(name: "postgres" | "keys.json" | "logs"): string {
    return join(this.path, name);
  }

  /** Forgets the database, the keys and the logs. Files that are not the stack's own stay. */
  async clear(): Promise<void> {
    for (const name of ["postgres", "keys.json", "logs"] as const) {
      await Deno.remove(this.file(name), { recursive: true }).catch(ignoreNotFound);
    }
  }

  /** Lets the other commands know that the stack answers now. */
  async publish(state: StackState): Promise<void> {
    await Deno.writeTextFile(join(this.path, STATE), JSON.stringify(state, null, 2) + "\n", {
      mode: 0o600,
    });
  }

  /** Gives the folder back. */
  async release(): Promise<void> {
    await Deno.remove(join(this.path, STATE)).catch(ignoreNotFound);
    this.#file.close();
  }
}

function ignoreNotFound(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

const LOCK = "lock";
const STATE = "stack.json";
