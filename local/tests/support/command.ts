import { join } from "node:path";

const CHECKOUT = join(import.meta.dirname!, "..", "..", "..");

/** What a command said and how it ended. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs `local/main.ts` to its end. */
export async function run(args: string[], checkout = CHECKOUT): Promise<Outcome> {
  const { code, stdout, stderr } = await command(args, checkout).output();
  return {
    code,
    stdout: new TextDecoder().decode(stdout),
    stderr: new TextDecoder().decode(stderr),
  };
}

/** Runs the curls that `start` printed, in their order, and reads what they get. */
// deno-lint-ignore no-explicit-any
export async function runCurls(printed: string, env: Record<string, string> = {}): Promise<any[]> {
  const answers = [];
  for (const [curl] of printed.matchAll(/curl .*\\\n.*\\\n.*/g)) {
    const { stdout } = await new Deno.Command("sh", { args: ["-c", curl], env }).output();
    answers.push(JSON.parse(new TextDecoder().decode(stdout)));
  }
  return answers;
}

/** A `start` that has come up, as far as the test wants. */
export interface Started {
  process: Deno.ChildProcess;
  /** What it printed until it answered. */
  stdout: string;
  /** Ends it by a signal and waits until it is gone. */
  end(signal: Deno.Signal): Promise<Deno.CommandStatus>;
}

/** Runs `local/main.ts start` on free ports until it has printed `until`: by default all that it says when it is up. */
export async function start(
  data: string,
  args: string[] = [],
  {
    checkout = CHECKOUT,
    env = {},
    until = "docs/",
  }: { checkout?: string; env?: Record<string, string>; until?: string } = {},
): Promise<Started> {
  const all = ["start", "--port", "0", "--db-port", "0", "--data", data, ...args];
  const process = command(all, checkout, env).spawn();
  const reader = process.stdout.pipeThrough(
    new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>,
  )
    .getReader();
  let stdout = "";
  while (!stdout.includes(until)) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`start ended: ${stdout}${await new Response(process.stderr).text()}`);
    stdout += value;
  }
  return {
    process,
    stdout,
    async end(signal) {
      process.kill(signal);
      const status = await process.status;
      await Promise.all([reader.cancel(), process.stderr.cancel()]);
      return status;
    },
  };
}

function command(
  args: string[],
  checkout: string,
  env: Record<string, string> = {},
): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", join(checkout, "local", "main.ts"), ...args],
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** The commands, with their environment, that mention a word: PostgreSQL its folder, a function the stack's address. */
export async function processesWith(word: string): Promise<string[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["axeww", "-o", "args"] }).output();
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line.includes(word));
}
