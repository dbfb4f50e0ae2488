/** A figure that the documentation tells, and what was wanted of it. */
export interface Goal {
  /** By which the documentation names it: `<!--bench:ID-->`. */
  id: string;
  what: string;
  figure: number;
  /** Between these is the middle half of the rounds. */
  range?: [number, number];
  /** As it reads in the table, such as "≤ 1.05"; left out where a figure is told, not judged. */
  wanted?: string;
  met?: boolean;
}

/** A table of figures; `null` where there is nothing to say. */
export interface Table {
  id: string;
  columns: string[];
  rows: (string | number | null)[][];
}

/** Bars of contestants, or lines over a growing size. */
export interface Plot {
  id: string;
  title: string;
  /** What the numbers are, with their unit. */
  unit: string;
  /** Title of the axis of sizes; left out for bars. */
  x?: string;
  points: { name: string; x?: number; value: number; low?: number; high?: number }[];
}

/** What one part of the benchmark found. */
export interface Section {
  goals: Goal[];
  tables: Table[];
  plots: Plot[];
  /** What did not run, and how to make it run. */
  leftOut: string[];
}

/** A section, with when and of what it was measured. */
export interface Measured extends Section {
  date: string;
  commit: string;
  machine: string;
}

/**
 * A figure beside what is wanted of it.
 *
 * @param id Its name in the documentation.
 * @param what What it is, with its unit.
 * @param figure The figure, with the range of its rounds if it has any.
 * @param wanted The bound; left out for a figure that is told, not judged.
 */
export function goal(
  id: string,
  what: string,
  figure: number | { figure: number; range: [number, number] },
  wanted?: { atMost: number } | { atLeast: number },
): Goal {
  const told = typeof figure === "number" ? { figure } : figure;
  if (!wanted) return { id, what, ...told };
  return "atMost" in wanted
    ? { id, what, ...told, wanted: `≤ ${wanted.atMost}`, met: told.figure <= wanted.atMost }
    : { id, what, ...told, wanted: `≥ ${wanted.atLeast}`, met: told.figure >= wanted.atLeast };
}

/** A number to three digits, or what else is in a cell. */
export function show(cell: string | number | null | undefined): string {
  if (cell === null || cell === undefined) return "";
  if (typeof cell === "string") return cell;
  if (!Number.isFinite(cell)) return "–";
  const rounded = Math.abs(cell) >= 1000 ? Math.round(cell) : Number(cell.toPrecision(3));
  return rounded.toLocaleString("en-US", { maximumFractionDigits: 6 });
}

/** The goals as a table. */
export function goalTable(goals: Goal[]): Table {
  return {
    id: "goals",
    columns: ["figure", "measured", "middle half of the rounds", "wanted", ""],
    rows: goals.map(({ what, figure, range, wanted, met }) => [
      what,
      figure,
      range ? range.map(show).join(" … ") : "",
      wanted ?? "",
      met === undefined ? "" : met ? "met" : "**missed**",
    ]),
  };
}

/** A table in Markdown. */
export function markdown({ columns, rows }: Table): string {
  const numeric = columns.map((_, i) => rows.some((row) => typeof row[i] === "number"));
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  return [
    line(columns),
    line(numeric.map((n) => n ? "---:" : "---")),
    ...rows.map((row) => line(row.map(show))),
  ].join("\n");
}
