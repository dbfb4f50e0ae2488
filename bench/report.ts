import { join } from "node:path";

/** A goal, and the figure that stands beside it. */
export interface Goal {
  what: string;
  /** As it reads in the table, such as "≤ 1.15"; empty for a figure that is told but not judged. */
  goal: string;
  figure: number;
  /** Smallest and largest of the rounds. */
  spread?: [number, number];
  met: boolean | null;
}

/** One cell of a table. */
export type Cell = string | number | null;

/** A table as it is printed; `null` where there is nothing to say. */
export interface Table {
  title: string;
  columns: string[];
  rows: Cell[][];
}

/** Lines over a logarithmic scale of sizes, or bars of competitors. */
export interface Plot {
  /** Name of the file, without its ending. */
  file: string;
  title: string;
  /** What the numbers are, with their unit. */
  unit: string;
  /** Lines when there is an `x` axis, else bars. */
  x?: string;
  /** The points on the axis, or the groups of bars. */
  at: (string | number)[];
  series: { name: string; values: (number | null)[]; low?: number[]; high?: number[] }[];
  /** A line across that a goal draws. */
  limit?: { value: number; label: string };
  /** The scale of the numbers; default: linear from 0. */
  log?: boolean;
}

/** What one part of the benchmark found. */
export interface Section {
  id: string;
  title: string;
  /** What the reader has to know to read the figures. */
  notes: string[];
  tables: Table[];
  goals: Goal[];
  plots: Plot[];
  /** What did not run, and how to make it run. */
  leftOut: string[];
  /** Every number, for whoever wants to look closer. */
  raw: unknown;
  /** When it was measured. */
  date?: string;
  /** Of which commit. */
  commit?: string;
  /** How long it took, in seconds. */
  seconds?: number;
}

/** Which machine and which versions the figures come from. */
export type Environment = Record<string, string | number>;

/** A goal judged by the ratio of two series of rounds, which ran in turns. */
export function ratioGoal(
  what: string,
  over: number[],
  under: number[],
  judge: { atMost: number } | { atLeast: number } | null,
): Goal {
  // round by round, so that a change in the machine's mood falls out
  const ratios = over.map((x, i) => x / under[i]!);
  const figure = median(ratios);
  const atMost = judge && "atMost" in judge;
  return {
    what,
    goal: judge === null ? "" : "atMost" in judge ? `≤ ${judge.atMost}` : `≥ ${judge.atLeast}`,
    figure,
    spread: [Math.min(...ratios), Math.max(...ratios)],
    met: judge === null
      ? null
      : atMost
      ? figure <= judge.atMost
      : figure >= (judge as { atLeast: number }).atLeast,
  };
}

/** The value below which the share `q` of them lies. */
export function quantile(values: number[], q: number): number {
  if (values.length === 0) return NaN;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

/** The middle value; of an even number, the mean of the two in the middle. */
export function median(values: number[]): number {
  if (values.length === 0) return NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Prints a section to the terminal. */
export function print(section: Section): void {
  console.log(`\n${section.title}\n${"=".repeat(section.title.length)}`);
  for (const table of section.tables) {
    console.log(`\n${table.title}`);
    const cells = [table.columns, ...table.rows.map((row) => row.map(show))];
    const widths = table.columns.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
    const numeric = table.columns.map((_, i) => table.rows.some((r) => typeof r[i] === "number"));
    cells.forEach((row, n) => {
      const line = row.map((cell, i) =>
        numeric[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)
      );
      console.log("  " + line.join("  ").trimEnd());
      if (n === 0) console.log("  " + widths.map((width) => "-".repeat(width)).join("  "));
    });
  }
  if (section.goals.length > 0) console.log();
  for (const goal of section.goals) console.log("  " + goalLine(goal));
  for (const line of section.leftOut) console.log(`  left out: ${line}`);
}

/**
 * Writes what the benchmark found: `results.json` with every number, `results.md` with the tables, and the plots.
 *
 * @param folder Where to; made when needed. Parts that did not run this time stay as they are, if the same kind of
 * machine measured them: each says when that was.
 * @param environment Of which machine.
 * @param found What was found.
 */
export async function write(
  folder: string,
  environment: Environment,
  found: Section[],
): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const before = await earlier(join(folder, "results.json"), environment);
  const sections = [...before.filter((old) => found.every(({ id }) => id !== old.id)), ...found]
    .sort((a, b) => a.title.localeCompare(b.title));
  const json = JSON.stringify(
    { environment, sections },
    (_, value) =>
      typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value,
    1,
  );
  await Deno.writeTextFile(join(folder, "results.json"), json + "\n");
  await Deno.writeTextFile(join(folder, "results.md"), markdown(environment, sections));
  for (const plot of sections.flatMap(({ plots }) => plots)) {
    const { date } = sections.find(({ plots }) => plots.includes(plot))!;
    const foot = `${environment.cpu} · PostgreSQL ${environment.postgres} · ${date}`;
    await Deno.writeTextFile(join(folder, `${plot.file}.svg`), svg(plot, foot));
  }
}

async function earlier(file: string, { cpu, memory }: Environment): Promise<Section[]> {
  try {
    const { environment, sections } = JSON.parse(await Deno.readTextFile(file));
    return environment.cpu === cpu && environment.memory === memory ? sections : [];
  } catch {
    return []; // there is none, or it is of another form
  }
}

function markdown(environment: Environment, sections: Section[]): string {
  const lines = [
    "# What `deno task bench` found",
    "",
    "Written by the benchmark; what it means is in [docs/performance.md](../../docs/performance.md).",
    "",
    ...Object.entries(environment).map(([name, value]) => `- ${name}: ${value}`),
    "",
    "## Goals",
    "",
    "| goal | figure | smallest … largest round | wanted | |",
    "| --- | ---: | --- | --- | --- |",
    ...sections.flatMap(({ goals }) => goals).filter(({ met }) => met !== null).map((goal) =>
      `| ${goal.what} | ${show(goal.figure)} | ${spread(goal)} | ${goal.goal} | ${
        goal.met ? "met" : "**missed**"
      } |`
    ),
  ];
  for (const section of sections) {
    lines.push(
      "",
      `## ${section.title}`,
      "",
      `Measured ${section.date} at commit ${section.commit}, in ${section.seconds} s.`,
      "",
    );
    lines.push(...section.notes.map((note) => `- ${note}`));
    for (const table of section.tables) {
      const numeric = table.columns.map((_, i) => table.rows.some((r) => typeof r[i] === "number"));
      lines.push("", `**${table.title}**`, "", `| ${table.columns.join(" | ")} |`);
      lines.push(`| ${numeric.map((n) => n ? "---:" : "---").join(" | ")} |`);
      lines.push(...table.rows.map((row) => `| ${row.map(show).join(" | ")} |`));
    }
    if (section.goals.length > 0) lines.push("");
    lines.push(...section.goals.map((goal) => `- ${goalLine(goal)}`));
    lines.push(...section.leftOut.map((line) => `- left out: ${line}`));
    for (const plot of section.plots) lines.push("", `![${plot.title}](${plot.file}.svg)`);
  }
  return lines.join("\n") + "\n";
}

function goalLine(goal: Goal): string {
  const verdict = goal.met === null ? "" : goal.met ? "met: " : "MISSED: ";
  const wanted = goal.goal && `, wanted ${goal.goal}`;
  return `${verdict}${goal.what}: ${show(goal.figure)}${
    goal.spread ? ` (${spread(goal)})` : ""
  }${wanted}`;
}

function spread({ spread }: Goal): string {
  return spread ? `${show(spread[0])} … ${show(spread[1])}` : "";
}

function show(cell: Cell): string {
  if (cell === null) return "";
  if (typeof cell === "string") return cell;
  if (!Number.isFinite(cell)) return "–";
  if (Number.isInteger(cell) || Math.abs(cell) >= 1000) {
    return Math.round(cell).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
  }
  return String(Number(cell.toPrecision(3)));
}

const WIDTH = 820;
const COLOURS = [
  "#0b6bcb",
  "#d9730d",
  "#2a8f5b",
  "#8a4fbf",
  "#b8354a",
  "#6b7280",
  "#0e8f9c",
  "#a68a00",
];
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 }
  .small { font-size: 11px; fill: #59636e }
  .grid { stroke: #d1d9e0 }
  .limit { stroke: #b8354a; stroke-dasharray: 5 4 }
  .paper { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d } .paper { fill: #0d1117 }
  }`;

function svg(plot: Plot, foot: string): string {
  return plot.x === undefined ? bars(plot, foot) : lines(plot, foot);
}

/** Horizontal bars: names of competitors are long, and need no turning of the head this way. */
function bars(plot: Plot, foot: string): string {
  const left = 250;
  const right = WIDTH - 90;
  const all = plot.series.flatMap(({ values, high }) => [...values, ...(high ?? [])])
    .filter((v) => v !== null);
  const scale = scaleOf(all, plot.log ?? false, left, right);
  const body: string[] = [];
  let y = 62;
  for (const [i, group] of plot.at.entries()) {
    if (plot.at.length > 1) {
      body.push(text(14, y + 13, String(group), `font-weight="600"`));
      y += 22;
    }
    for (const [n, { name, values, low, high }] of plot.series.entries()) {
      const value = values[i];
      if (value === null || value === undefined) continue;
      const end = scale(value);
      body.push(
        text(left - 8, y + 13, name, `text-anchor="end"`),
        `<rect x="${left}" y="${y}" width="${round(end - left)}" height="17" rx="2" fill="${
          COLOURS[n % COLOURS.length]
        }"/>`,
      );
      if (low && high) {
        body.push(
          `<path d="M${round(scale(low[i]!))} ${y + 8.5}H${
            round(scale(high[i]!))
          }" class="grid" stroke-width="2"/>`,
        );
      }
      const beside = Math.max(end, high ? scale(high[i]!) : 0);
      body.push(text(beside + 6, y + 13, show(value)));
      y += 22;
    }
    y += 8;
  }
  if (plot.limit) {
    const x = round(scale(plot.limit.value));
    body.push(
      `<path d="M${x} 56V${y - 4}" class="limit"/>`,
      text(x + 4, 54, plot.limit.label, `class="small"`),
    );
  }
  return frame(plot, body, y + 12, foot);
}

function lines(plot: Plot, foot: string): string {
  const [left, right, top, bottom] = [70, WIDTH - 24, 84, 330];
  const all = plot.series.flatMap(({ values }) => values).filter((v) => v !== null);
  if (plot.limit) all.push(plot.limit.value);
  const scale = scaleOf(all, plot.log ?? false, bottom, top);
  const x = (i: number) =>
    left + (plot.at.length < 2 ? 0 : i * (right - left) / (plot.at.length - 1));
  const body: string[] = [];
  for (const tick of ticks(all, plot.log ?? false)) {
    const y = round(scale(tick));
    body.push(`<path d="M${left} ${y}H${right}" class="grid"/>`);
    body.push(text(left - 8, y + 4, show(tick), `text-anchor="end" class="small"`));
  }
  plot.at.forEach((at, i) =>
    body.push(
      text(x(i), bottom + 18, show(at), `text-anchor="${anchor(i, plot.at.length)}" class="small"`),
    )
  );
  body.push(text((left + right) / 2, bottom + 38, plot.x!, `text-anchor="middle" class="small"`));
  let legend = left;
  for (const [n, { name, values }] of plot.series.entries()) {
    const colour = COLOURS[n % COLOURS.length]!;
    const points = values.flatMap((v, i) =>
      v === null ? [] : [[round(x(i)), round(scale(v))] as const]
    );
    body.push(
      `<polyline points="${
        points.map((p) => p.join(",")).join(" ")
      }" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3.5" fill="${colour}"/>`),
      `<rect x="${legend}" y="58" width="12" height="12" rx="2" fill="${colour}"/>`,
      text(legend + 17, 69, name),
    );
    legend += 30 + name.length * 7;
  }
  if (plot.limit) {
    const y = round(scale(plot.limit.value));
    body.push(
      `<path d="M${left} ${y}H${right}" class="limit"/>`,
      text(right, y - 5, plot.limit.label, `text-anchor="end" class="small"`),
    );
  }
  return frame(plot, body, bottom + 58, foot);
}

function frame({ title, unit }: Plot, body: string[], height: number, foot: string): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height + 20}" role="img">`,
    `<title>${escape(title)}</title>`,
    `<style>${STYLE}\n</style>`,
    `<rect class="paper" width="${WIDTH}" height="${height + 20}"/>`,
    text(14, 26, title, `class="title"`),
    text(14, 44, unit, `class="small"`),
    ...body,
    text(14, height + 8, foot, `class="small"`),
    "</svg>",
    "",
  ].join("\n");
}

function scaleOf(values: number[], log: boolean, from: number, to: number): (v: number) => number {
  const max = Math.max(...values, Number.MIN_VALUE);
  if (!log) return (v) => from + (to - from) * v / max;
  const min = 10 ** Math.floor(Math.log10(Math.min(...values.filter((v) => v > 0))));
  const span = Math.log(max / min) || 1;
  return (v) => from + (to - from) * Math.max(0, Math.log(Math.max(v, min) / min)) / span;
}

function ticks(values: number[], log: boolean): number[] {
  const max = Math.max(...values);
  if (log) {
    const first = Math.floor(Math.log10(Math.min(...values.filter((v) => v > 0))));
    const last = Math.floor(Math.log10(max));
    return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  }
  const raw = max / 4;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((n) => n * unit >= raw)! * unit;
  return Array.from(
    { length: Math.floor(max / step) + 1 },
    (_, i) => Number((i * step).toPrecision(6)),
  );
}

function anchor(i: number, n: number): string {
  return i === 0 ? "start" : i === n - 1 ? "end" : "middle";
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escape(content)}</text>`;
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function round(x: number): number {
  return Math.round(x * 10) / 10;
}
