import { join, relative } from "node:path";
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { ROOT } from "./lab.ts";
import { goalTable, markdown, type Measured, type Plot, show } from "./report.ts";

/** What was measured last of each part: the one home of every figure that the documentation tells. */
export type Figures = Record<string, Measured>;

const FILE = join(ROOT, "bench", "figures.json");
const PLOTS = join(ROOT, "docs", "images", "bench");

/** Reads what was measured. */
export async function readFigures(): Promise<Figures> {
  return JSON.parse(await Deno.readTextFile(FILE).catch(() => "{}"));
}

/** Writes what was measured. */
export async function writeFigures(figures: Figures): Promise<void> {
  const rounded = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
  // a line for each figure, and for each row of a table
  const json = JSON.stringify(figures, rounded, 1)
    .replace(/\[[^[\]{}]*\]/g, (list) => list.replace(/\s+/g, " "))
    .replace(/\{[^{}]*\}/g, (leaf) => leaf.includes("[\n") ? leaf : leaf.replace(/\s+/g, " "));
  await Deno.writeTextFile(FILE, json + "\n");
}

/** Fills the figures into the marked places of README.md and docs/, and draws the plots. */
export async function fillDocs(): Promise<void> {
  await Deno.mkdir(PLOTS, { recursive: true });
  const { files } = await generated();
  for (const [path, content] of files) await Deno.writeTextFile(path, content);
}

/** What of the documentation is not as the figures have it: a line for each. */
export async function differences(): Promise<string[]> {
  const { files, missing } = await generated();
  const lines = missing.map((key) => `docs tell ${key}, which was not measured.`);
  for (const [path, content] of files) {
    const told = await Deno.readTextFile(path).catch(() => undefined);
    if (told !== content) lines.push(`${relative(ROOT, path)} does not tell what was measured.`);
  }
  return lines;
}

/** Every page that has marked places, and every plot, as the figures have them. */
async function generated(): Promise<{ files: Map<string, string>; missing: string[] }> {
  const figures = await readFigures();
  const files = new Map<string, string>();
  const missing: string[] = [];
  for (const path of [join(ROOT, "README.md"), ...pages(join(ROOT, "docs"))]) {
    const text = await Deno.readTextFile(path);
    if (!text.includes("<!--bench:")) continue;
    files.set(path, await format(fill(text, figures, missing)));
  }
  for (const plot of Object.values(figures).flatMap(({ plots }) => plots)) {
    files.set(join(PLOTS, `${plot.id}.svg`), await draw(plot));
  }
  return { files, missing };
}

function* pages(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    if (isDirectory) yield* pages(join(folder, name));
    else if (name.endsWith(".md")) yield join(folder, name);
  }
}

/**
 * `<!--bench:KEY-->…<!--/bench-->` holds a figure by its id, `table:ID`, or of a part `goals:PART`, `date:PART`,
 * `machine:PART`, `commit:PART`. What was not measured stays as it is, and is named in `missing`. Within a sentence it
 * stands between `**`, as a comment that begins a line ends the paragraph.
 */
function fill(text: string, figures: Figures, missing: string[]): string {
  return text.replace(/<!--bench:([\w:-]+)-->[\s\S]*?<!--\/bench-->/g, (old, key) => {
    const value = lookUp(key, figures);
    if (value !== undefined) return `<!--bench:${key}-->${value}<!--/bench-->`;
    missing.push(key);
    return old;
  });
}

function lookUp(key: string, figures: Figures): string | undefined {
  const parts = Object.values(figures);
  const [kind, name] = key.split(":");
  const block = (content: string) => `\n\n${content}\n\n`;
  if (kind === "table") {
    const table = parts.flatMap(({ tables }) => tables).find(({ id }) => id === name);
    return table && block(markdown(table));
  }
  if (name !== undefined) {
    const part = figures[name];
    if (kind === "goals") return part && block(markdown(goalTable(part.goals)));
    return part?.[kind as "date" | "machine" | "commit"];
  }
  const goal = parts.flatMap(({ goals }) => goals).find(({ id }) => id === key);
  return goal && show(goal.figure);
}

/** As `deno fmt` wants a page: the gate compares it whole. */
async function format(page: string): Promise<string> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext=md", "--config", join(ROOT, "deno.json"), "-"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const [{ stdout }] = await Promise.all([
    command.output(),
    new Response(page).body!.pipeTo(command.stdin),
  ]);
  return new TextDecoder().decode(stdout);
}

async function draw({ title, unit, x, points }: Plot): Promise<string> {
  const value = { field: "value", type: "quantitative", title: unit } as const;
  const names = { field: "name", type: "nominal", sort: null, title: null } as const;
  const spec: TopLevelSpec = {
    title: x ? { text: title, subtitle: unit } : title,
    background: "white",
    config: { axis: { labelLimit: 400 }, legend: { labelLimit: 400 } },
    padding: 12,
    width: 460,
    data: { values: points },
    ...x
      ? {
        height: 240,
        mark: { type: "line", point: true },
        encoding: {
          x: { field: "x", type: "quantitative", title: x, scale: { type: "log" } },
          y: { ...value, title: null },
          color: { ...names, legend: { orient: "bottom", columns: 2 } },
        },
      }
      : {
        encoding: { y: names },
        layer: [
          { mark: { type: "bar", color: "#0b6bcb" }, encoding: { x: value } },
          {
            mark: "rule",
            encoding: { x: { field: "low", type: "quantitative" }, x2: { field: "high" } },
          },
        ],
      },
  };
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: "none" });
  return await view.toSVG() + "\n";
}
