import { firstProgram } from "./programs.ts";

/** A tab that another tab of its window hides. */
export interface HiddenTab extends AsyncDisposable {
  /**
   * Runs an expression in the tab.
   *
   * @param expression JavaScript; a promise is waited for.
   * @returns Its value.
   */
  // deno-lint-ignore no-explicit-any
  evaluate(expression: string): Promise<any>;
  /** Hides the tab. From a second later on Chromium throttles its timers intensively, which takes five minutes otherwise. */
  hide(): Promise<void>;
  /** Stops all that the hidden tab does, as Chromium does it to save memory or energy. */
  freeze(): Promise<void>;
  /** Lets it go on. */
  thaw(): Promise<void>;
}

/**
 * Opens a tab in a Chromium of its own, by the bare DevTools protocol: Playwright has every page believe that it is seen.
 *
 * @param url What the tab shows.
 * @returns The tab.
 */
export async function openTabToHide(url: string): Promise<HiddenTab> {
  const profile = await Deno.makeTempDir({ prefix: "holdfast-tab-" });
  const child = new Deno.Command(await firstProgram(), {
    args: [
      ...["--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu"],
      ...["--remote-debugging-port=0", `--user-data-dir=${profile}`],
      "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1",
      "about:blank",
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  const tools = await connect(`${profile}/DevToolsActivePort`);
  const { targetId } = await tools.send("Target.createTarget", { url });
  const { sessionId } = await tools.send("Target.attachToTarget", { targetId, flatten: true });
  return {
    async evaluate(expression) {
      const params = { expression, awaitPromise: true, returnByValue: true };
      const { result, exceptionDetails } = await tools.send("Runtime.evaluate", params, sessionId);
      if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
      return result.value;
    },
    async hide() {
      const { targetId } = await tools.send("Target.createTarget", { url: "about:blank" });
      await tools.send("Target.activateTarget", { targetId });
    },
    async freeze() {
      await tools.send("Page.setWebLifecycleState", { state: "frozen" }, sessionId);
    },
    async thaw() {
      await tools.send("Page.setWebLifecycleState", { state: "active" }, sessionId);
    },
    async [Symbol.asyncDispose]() {
      await tools.send("Browser.close");
      tools.close();
      await child.status;
      await Deno.remove(profile, { recursive: true });
    },
  };
}

/** The protocol's connection. */
interface Tools {
  // deno-lint-ignore no-explicit-any
  send(method: string, params?: object, sessionId?: string): Promise<any>;
  close(): void;
}

async function connect(portFile: string): Promise<Tools> {
  let text = "";
  while (!text.includes("/devtools/")) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    text = await Deno.readTextFile(portFile).catch(() => "");
  }
  const [port, path] = text.split("\n");
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
  await new Promise((resolve) => socket.onopen = resolve);
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  socket.onmessage = ({ data }) => {
    const { id, result, error } = JSON.parse(data);
    if (error) waiting.get(id)?.reject(new Error(error.message));
    else waiting.get(id)?.resolve(result);
  };
  let last = 0;
  return {
    send(method, params = {}, sessionId) {
      const answer = Promise.withResolvers<unknown>();
      waiting.set(++last, answer);
      socket.send(JSON.stringify({ id: last, method, params, sessionId }));
      return answer.promise;
    },
    close: () => socket.close(),
  };
}
