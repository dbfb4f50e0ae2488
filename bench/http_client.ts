/// <reference lib="deno.worker" />
// The caller of bench/http.ts, in a thread of its own: the stack runs in the main thread.

/** One request. */
export interface Task {
  url: string;
  method: string;
  headers: Record<string, string>;
  body?: string;
}

/** What came of it. */
export interface Answer {
  status: number;
  text: string;
  ms: number;
}

self.onmessage = async ({ data }: MessageEvent<Task[][][]>) => {
  // clients at once, each one request after the other
  self.postMessage(
    await Promise.all(data.map(async (groups) => {
      const answers: Answer[][] = [];
      for (const group of groups) {
        const of: Answer[] = [];
        for (const task of group) of.push(await ask(task));
        answers.push(of);
      }
      return answers;
    })),
  );
};

async function ask({ url, ...init }: Task): Promise<Answer> {
  const start = performance.now();
  const response = await fetch(url, init);
  const text = await response.text();
  return { status: response.status, text, ms: performance.now() - start };
}
