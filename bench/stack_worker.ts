/// <reference lib="deno.worker" />
// The stack of a measurement, in a thread of its own: its gateway and Data API do not share one with their callers.
import { type Stack, startStack } from "../local/stack.ts";

let stack: Stack | undefined;

self.onmessage = async ({ data: project }: MessageEvent<string | null>) => {
  if (project) {
    stack = await startStack({ project });
    const { url, publishableKey, secretKey, dbUrl } = stack;
    self.postMessage({ url, publishableKey, secretKey, dbUrl });
  } else {
    await stack?.stop();
    self.postMessage(null);
  }
};
