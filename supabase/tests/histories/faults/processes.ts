/**
 * The processes that another one started, from /proc.
 *
 * @param parent Its number.
 * @returns Their numbers.
 */
export async function childrenOf(parent: number): Promise<number[]> {
  const found: number[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await Deno.readTextFile(`/proc/${name}/stat`).catch(() => "");
    // the name, in brackets, may have anything in it
    const [, ppid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (Number(ppid) === parent) found.push(Number(name));
  }
  return found;
}

/**
 * The command line of a process.
 *
 * @param pid Its number.
 * @returns Its words, with spaces in between; nothing where it has ended.
 */
export async function commandOf(pid: number): Promise<string> {
  const line = await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "");
  return line.replaceAll("\0", " ");
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
