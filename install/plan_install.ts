import { createHash } from "node:crypto";
import { addBlocks } from "./config_blocks.ts";
import { nextVersion } from "./next_version.ts";
import type { PackageFiles } from "./package_files.ts";
import type { Change, Plan } from "./plan.ts";
import { MANIFEST, type Manifest, type Project } from "./project.ts";
import { Refusal } from "./refusal.ts";

/** How to install. */
export interface InstallOptions {
  /** The query that says who belongs to which tenant; default: the table `tenant_members`. */
  members?: string | undefined;
  /** Replace files that are the user's own or were edited. */
  overwrite?: boolean | undefined;
  /** The time, for the names of migrations. */
  now?: Date;
}

/** The package's migrations that are one file in a project, so that they are one transaction: all of it, or nothing. */
const FIRST = [/_videos_and_members\.sql$/, /_holdfast\.sql$/];

/**
 * Finds out what an install or an upgrade has to do. It only reads.
 *
 * @param project The project.
 * @param files What the package brings.
 * @param options See {@linkcode InstallOptions}.
 * @returns The plan; without changes when all is there.
 * @throws {Refusal} With everything that is in the way.
 */
export async function planInstall(
  project: Project,
  files: PackageFiles,
  options: InstallOptions = {},
): Promise<Plan> {
  const { manifest } = project;
  const members = options.members?.trim().replace(/;\s*$/, "");
  assertFits(project, files, members);
  const changes: Change[] = [];
  const notes: string[] = [];

  const migrations = { ...manifest?.migrations };
  for (const [name, text, contents] of newMigrations(project, files, members, options.now)) {
    changes.push({ path: `migrations/${name}`, before: null, after: text });
    for (const content of contents) migrations[content] = name;
  }
  const merged = await mergeFiles(project, files, options.overwrite ?? false);
  changes.push(...merged.changes);
  notes.push(...merged.notes);
  const config = addBlocks(project.config.text, files.functionNames);
  changes.push({ path: "config.toml", before: project.config.text, after: config });
  notes.push(...notesOnConfig(project));
  const now: Manifest = {
    version: files.version,
    ...((members ?? manifest?.members) ? { members: members ?? manifest!.members! } : {}),
    migrations,
    files: merged.hashes,
  };
  changes.push({
    path: MANIFEST,
    before: await project.read(MANIFEST),
    after: JSON.stringify(now, null, 2) + "\n",
  });
  if (!manifest) notes.push(noteOnMembers(now.members));
  return {
    title: titleOf(manifest?.version, files.version),
    changes: changes.filter(({ before, after }) => before !== after),
    notes,
    next: [
      "npx supabase db push                # first the migrations; locally: npx supabase migration up",
      "npx supabase functions deploy       # then the functions",
      "npm install holdfast                # the client library, if it is not there yet",
    ],
  };
}

function titleOf(from: string | undefined, to: string): string {
  if (from === undefined) return `Install Holdfast ${to}`;
  return from === to ? `Holdfast ${to}` : `Upgrade Holdfast from ${from} to ${to}`;
}

/** What is wrong with the project as a whole. */
function assertFits(project: Project, files: PackageFiles, members: string | undefined): void {
  const { manifest } = project;
  if (!manifest) {
    const installed = project.migrations.filter((name) => /^\d+_holdfast\.sql$/.test(name)).at(-1);
    const removed = project.migrations.filter((name) => name.endsWith("_remove_holdfast.sql"))
      .at(-1);
    if (installed && !(removed && removed > installed)) {
      throw new Refusal(
        `supabase/migrations/${installed} is there, but not supabase/${MANIFEST}, which says what is installed. Put it back, from version control.`,
      );
    }
    return;
  }
  if (manifest.version.localeCompare(files.version, "en", { numeric: true }) > 0) {
    throw new Refusal(
      `The project has Holdfast ${manifest.version}, and this is the older ${files.version}. Run \`npx holdfast@latest install\`.`,
    );
  }
  const missing = [...new Set(Object.values(manifest.migrations))]
    .filter((name) => !project.migrations.includes(name));
  if (missing.length > 0) {
    throw new Refusal(
      ...missing.map((name) =>
        `supabase/migrations/${name} is gone. Put it back, from version control.`
      ),
    );
  }
  if (members !== undefined && members !== manifest.members) {
    throw new Refusal(
      "Holdfast is installed already, so --members comes too late. Write a migration with `create or replace view holdfast.membership as …` instead: see docs/how-to/use-your-own-members.md.",
    );
  }
}

/** The migrations to add: name, text, and the package's migrations that are in it. */
function newMigrations(
  project: Project,
  { version, migrations }: PackageFiles,
  members: string | undefined,
  now = new Date(),
): [name: string, text: string, contents: string[]][] {
  const known = project.manifest?.migrations ?? {};
  const missing = [...migrations].filter(([name]) => !(name in known));
  const first = missing.filter(([name]) => FIRST.some((pattern) => pattern.test(name)));
  const others = missing.filter((one) => !first.includes(one));
  const groups = [...(first.length > 0 ? [first] : []), ...others.map((one) => [one])];
  let last = project.migrations.at(-1)?.split("_")[0];
  return groups.map((group) => {
    last = nextVersion(last, now);
    const name = group === first ? "holdfast.sql" : group[0]![0].replace(/^\d+_/, "");
    const note =
      `-- Holdfast ${version}, by \`npx holdfast install\`. Do not edit it: a change is a migration of its own.`;
    const setting = group === first && members
      ? [
        `-- who belongs to which tenant\nselect set_config('holdfast.members', ${
          quoted(members)
        }, true);`,
      ]
      : [];
    const texts = group.map(([, text]) => text.replace(/^-- Generated .*\n+/, "").trimEnd());
    return [
      `${last}_${name}`,
      [note, ...setting, ...texts].join("\n\n") + "\n",
      group.map(([one]) => one),
    ];
  });
}

/** A text as SQL has it, with its lines as they are. */
function quoted(text: string): string {
  let tag = "$query$";
  for (let n = 1; text.includes(tag); n++) tag = `$query${n}$`;
  return tag + text + tag;
}

/** The functions' files: new ones, newer ones, and those that the user has changed. */
async function mergeFiles(project: Project, { functions }: PackageFiles, overwrite: boolean) {
  const known = project.manifest?.files ?? {};
  const changes: Change[] = [];
  const notes: string[] = [];
  const hashes: Record<string, string> = {};
  const others: string[] = [];
  for (const path of new Set([...functions.keys(), ...Object.keys(known)])) {
    const before = await project.read(path);
    const after = functions.get(path) ?? null;
    const isOurs = before === null || before === after || sha256(before) === known[path];
    if (after !== null) hashes[path] = sha256(after);
    if (isOurs || overwrite) {
      changes.push({ path, before, after });
      continue;
    }
    if (!(path in known)) others.push(path);
    // it stays edited, so what it was made from stays known
    else hashes[path] = known[path]!;
    notes.push(
      `supabase/${path} was edited, and stays as it is${
        after === null ? ". Holdfast does not need it any more" : ""
      }. (--overwrite replaces it.)`,
    );
  }
  if (others.length > 0) {
    throw new Refusal(
      ...others.map((path) =>
        `supabase/${path} is there already, and not Holdfast's. Rename that function, or replace it with --overwrite.`
      ),
    );
  }
  return { changes, notes, hashes };
}

/** The hash that the manifest has of a file. */
function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function notesOnConfig({ config: { settings } }: Project): string[] {
  const { api, edge_runtime } = settings;
  return [
    ...(api?.enabled === false || api?.schemas?.includes("public") === false
      ? [
        "The Data API does not serve the schema public here ([api] in config.toml). The functions need it.",
      ]
      : []),
    ...(edge_runtime?.enabled === false
      ? ["Edge functions are not served here ([edge_runtime] in config.toml)."]
      : []),
  ];
}

function noteOnMembers(members: string | undefined): string {
  return members === undefined
    ? "Who belongs to which tenant: the table tenant_members, made where there is none. If your project has tables of its own for that, say so with --members."
    : "Who belongs to which tenant: your query, as the view holdfast.membership.";
}
