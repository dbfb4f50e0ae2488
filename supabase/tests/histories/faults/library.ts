import { TextLineStream } from "@std/streams/text-line-stream";
import { endWithUs } from "./processes.ts";
import type { Job, Report } from "./library_process.ts";

/** The process with the clients of the library. */
export interface Library extends AsyncDisposable {
  pid: number;
  work(job: Job): Promise<Report>;
}

/**
 * Starts clients of the library in a process of their own.
 *
 * @returns The process.
 */
export function startLibrary(): Library {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${import.meta.dirname}/library_process.ts`],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const watchdog = endWithUs(child.pid, "KILL");
  const input = child.stdin.getWriter();
  const lines = (child.stdout.pipeThrough(new TextDecoderStream() as never)
    .pipeThrough(new TextLineStream()) as ReadableStream<string>).getReader();
  return {
    pid: child.pid,
    async work(job) {
      await input.write(new TextEncoder().encode(`${JSON.stringify(job)}\n`));
      const { value } = await lines.read();
      if (!value) throw new Error("the clients of the library have ended");
      return JSON.parse(value);
    },
    async [Symbol.asyncDispose]() {
      await input.close().catch(() => {});
      await child.status;
      await watchdog.stdin.close().catch(() => {});
    },
  };
}
