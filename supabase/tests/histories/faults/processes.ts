/**
 * The processes that another one started.
 *
 * @param parent Its number.
 * @returns Their numbers.
 */
export async function childrenOf(parent: number): Promise<number[]> {
  const lines = (await ps("-A", "-o", "pid=,ppid=")).split("\n");
  return lines.map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, ppid]) => ppid === parent).map(([pid]) => pid!);
}

/**
 * The command line of a process.
 *
 * @param pid Its number.
 * @returns Its words; nothing where it has ended.
 */
export const commandOf = (pid: number): Promise<string> => ps("-ww", "-o", "args=", "-p", `${pid}`);

/** From /proc where there is one, as not every small container has ps, and every machine without /proc has. */
async function ps(...args: string[]): Promise<string> {
  if (Deno.build.os !== "linux") {
    const { stdout } = await new Deno.Command("ps", { args, stderr: "null" }).output();
    return new TextDecoder().decode(stdout);
  }
  const read = (file: string) => Deno.readTextFile(file).catch(() => "");
  if (args.includes("-p")) {
    return (await read(`/proc/${args.at(-1)}/cmdline`)).replaceAll("\0", " ");
  }
  const lines: string[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await read(`/proc/${name}/stat`);
    // the name, in brackets, may have anything in it
    const [, ppid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    lines.push(`${name} ${ppid}`);
  }
  return lines.join("\n");
}

/**
 * Sends a signal to a process that may have ended.
 *
 * @param pid Its number.
 * @param what The signal.
 */
export function signal(pid: number, what: Deno.Signal): void {
  try {
    Deno.kill(pid, what);
  } catch {
    // it has ended
  }
}

/**
 * Ends a process when this one ends in a way that leaves it no time to do so itself: the pipe closes.
 *
 * @param pid Its number.
 * @param how The signal.
 * @returns What watches. Close its standard input when the process has ended.
 */
export function endWithUs(pid: number, how: "QUIT" | "KILL"): Deno.ChildProcess {
  return new Deno.Command("sh", {
    args: ["-c", 'read -r _; kill -"$2" "$1" 2>/dev/null', "sh", String(pid), how],
    stdin: "piped",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
}
