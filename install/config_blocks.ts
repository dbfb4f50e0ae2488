import { parseConfig, type Settings } from "./project.ts";
import { Refusal } from "./refusal.ts";

const WHY =
  `# Holdfast's functions. verify_jwt is off because that check is not an authorization: it lets the publishable key
# through, which is public, and it cannot take the keys that begin with sb_, which are no JWTs. Each function passes its
# caller's own credentials to the Data API, which verifies them, and SQL decides by them.`;

/** The settings of one function. */
const settingsOf = (name: string): Record<string, unknown> => ({
  enabled: true,
  verify_jwt: false,
  import_map: `./functions/${name}/deno.json`,
  entrypoint: `./functions/${name}/index.ts`,
});

/** What the Supabase CLI takes where nothing is said. */
const DEFAULTS: Record<string, unknown> = { enabled: true, verify_jwt: true };

const blockOf = (name: string) =>
  [
    `[functions.${name}]`,
    ...Object.entries(settingsOf(name)).map(([key, value]) => `${key} = ${JSON.stringify(value)}`),
  ].join("\n");

/** The text that stands for some functions at the end of config.toml. */
const blocksOf = (names: string[]) => [WHY, ...names.map(blockOf)].join("\n\n") + "\n";

/**
 * Adds what is missing to a config.toml, at its end, and leaves all else as it is.
 *
 * @param text The text of config.toml.
 * @param names Names of Holdfast's functions.
 * @returns The new text; the same, where nothing is missing.
 * @throws {Refusal} When the file says something else of these functions.
 */
export function addBlocks(text: string, names: string[]): string {
  const { functions = {} } = parseConfig(text);
  const wrong = names.flatMap((name) => differences(name, functions[name]));
  if (wrong.length > 0) throw new Refusal(...wrong);
  const missing = names.filter((name) => functions[name] === undefined);
  if (missing.length === 0) return text;
  const eol = text.includes("\r\n") ? "\r\n" : "\n";
  const before = text === "" || text.endsWith("\n") ? text : text + eol;
  const after = before + eol + blocksOf(missing).replaceAll("\n", eol);
  let added: Settings;
  try {
    added = parseConfig(after);
  } catch {
    throw new Refusal(
      "supabase/config.toml cannot take [functions.…] blocks at its end (is `functions` an inline table?). " +
        `Add these yourself, and run this again:\n${blocksOf(missing)}`,
    );
  }
  // what was there has to be what is there
  for (const name of missing) delete added.functions![name];
  if (Object.keys(added.functions!).length === 0 && !parseConfig(text).functions) {
    delete added.functions;
  }
  if (JSON.stringify(added) !== JSON.stringify(parseConfig(text))) {
    throw new Refusal("supabase/config.toml would mean something else with blocks at its end.");
  }
  return after;
}

/**
 * Takes out of a config.toml what {@link addBlocks} has added.
 *
 * @param text The text of config.toml.
 * @param names Names of Holdfast's functions.
 * @returns The new text, and the names of functions whose blocks were edited and are left.
 */
export function removeBlocks(text: string, names: string[]): { text: string; left: string[] } {
  const eol = text.includes("\r\n") ? "\r\n" : "\n";
  // a block ends where another begins, or the file does; more lines are the user's
  const cut = (piece: string) => {
    const [before, ...after] = text.split(piece.replaceAll("\n", eol));
    if (after.length === 1 && /^\s*(\[|#|$)/.test(after[0]!)) text = before! + after[0]!;
  };
  cut("\n" + blocksOf(names)); // as it was added, all at once
  for (const name of names) cut(blockOf(name) + "\n");
  const { functions = {} } = parseConfig(text);
  const left = names.filter((name) => functions[name] !== undefined);
  if (left.length === 0) cut(`\n${WHY}\n\n`);
  return { text, left };
}

/** What an own block of a function says that does not fit. */
function differences(name: string, block: Record<string, unknown> | undefined): string[] {
  if (block === undefined) return [];
  const wanted = settingsOf(name);
  return Object.keys(wanted).filter((key) => {
    const value = block[key] ?? DEFAULTS[key] ?? wanted[key];
    return value !== wanted[key] && `./${value}` !== wanted[key];
  }).map((key) =>
    `[functions.${name}] in supabase/config.toml has another ${key}: it has to be ${
      JSON.stringify(wanted[key])
    }. Change it, or remove the block.`
  );
}
