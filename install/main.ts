/**
 * `npx holdfast install` and `npx holdfast remove`: Holdfast into a Supabase project that exists, and out of it.
 *
 * @module
 */
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { applyChanges } from "./apply_changes.ts";
import { askConsent, askMembers } from "./ask.ts";
import { describe, diffOf } from "./describe.ts";
import { packageFiles } from "./package_files.ts";
import { planInstall } from "./plan_install.ts";
import { planRemoval } from "./plan_removal.ts";
import { readProject } from "./project.ts";
import { Refusal } from "./refusal.ts";

const HELP = `Installs Holdfast into a Supabase project, upgrades it there, or removes it.

  npx holdfast install     add its migration, edge functions and config.toml blocks; or what a newer version brings
    --members QUERY        who belongs to which tenant, if not the table tenant_members: a query for
                           tenant_id (uuid), user_id (uuid), role (text; 'admin' may release by force)
    --overwrite            replace files that you have edited, and functions of yours that have the same names
  npx holdfast remove      add a migration that takes it out of the database, and delete its files

Both take
    --dry-run              show the changes as a diff, and make none
    --yes                  do not ask
    --workdir DIR          the folder that has supabase/ (default: this one, or one above)
    --version              which version this is
    --help                 this text

Only files below supabase/ change. Nothing is sent anywhere: \`supabase db push\` and \`functions deploy\` do that.`;

const OPTIONS = {
  members: { type: "string" },
  overwrite: { type: "boolean" },
  "dry-run": { type: "boolean" },
  yes: { type: "boolean", short: "y" },
  workdir: { type: "string" },
  version: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** The words after the command were wrong. */
class UsageError extends Error {}

/** The folder of the package, or of the checkout. */
const ROOT = join(fileURLToPath(import.meta.url), "../..");

function parse(args: string[]) {
  try {
    const { values, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true });
    const [command, ...others] = positionals;
    if (others.length > 0) throw new Error(`'${others[0]}' is too much.`);
    if (command === "remove" && (values.members !== undefined || values.overwrite)) {
      throw new Error("--members and --overwrite are for install.");
    }
    return { command, ...values };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Asks a person, where there is one. */
const isInteractive = () => process.stdin.isTTY === true && process.stdout.isTTY === true;

async function main(args: string[]): Promise<void> {
  const { command, members, overwrite, yes, ...flags } = parse(args);
  if (flags.help || (command === undefined && !flags.version)) return console.log(HELP);
  const files = await packageFiles(ROOT);
  if (flags.version) return console.log(files.version);
  if (command !== "install" && command !== "remove") {
    throw new UsageError(`There is no command '${command}'.`);
  }
  const project = await readProject(flags.workdir ?? ".");
  const asks = !yes && !flags["dry-run"] && isInteractive();
  const isNew = command === "install" && !project.manifest && members === undefined;
  const query = asks && isNew ? await askMembers() : members;
  const plan = command === "install"
    ? await planInstall(project, files, { members: query, overwrite })
    : await planRemoval(project, files);
  if (plan.changes.length === 0) {
    return console.log(
      [`${plan.title} is installed. There is nothing to do.`, ...plan.notes].join("\n"),
    );
  }
  console.log(describe(plan));
  if (flags["dry-run"]) {
    return console.log(`${diffOf(plan)}\nNothing was changed (--dry-run).`);
  }
  if (!yes) {
    if (!asks) throw new Refusal("There is no terminal to ask in: add --yes, or --dry-run.");
    if (!await askConsent(plan.title)) throw new Refusal("You said no.");
  }
  await applyChanges(project.supabase, plan.changes);
  console.log(["Done. Next:", "", ...plan.next.map((line) => `  ${line}`), ""].join("\n"));
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const known = error instanceof Refusal || error instanceof UsageError ||
    (error as { code?: string }).code !== undefined;
  if (!known) throw error;
  const hint = error instanceof UsageError ? "See --help." : "Nothing was changed.";
  console.error(`${(error as Error).message}\n${hint}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
