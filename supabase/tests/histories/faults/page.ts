import { FAULTS } from "./faults.ts";
import type { Figures } from "./figures.ts";

const number = (value: number) => value.toLocaleString("en");
const percent = (part: number, of: number) => `${(100 * part / of).toFixed(1)} %`;

/**
 * Fills the figures of a run into a page, between `<!--soak:NAME-->` and `<!--/soak-->`.
 *
 * @param text The page.
 * @param figures The run.
 * @returns The page with its figures.
 * @throws {Error} Where the page wants a figure that there is not.
 */
export function fillPage(text: string, figures: Figures): string {
  const { power, searches } = figures;
  const killed = Object.values(figures.controls).filter((seconds) => seconds !== null);
  const values: Record<string, string> = {
    date: figures.date,
    commit: figures.commit,
    machine: figures.machine,
    seed: figures.seed,
    minutes: (figures.seconds / 60).toFixed(1),
    histories: number(figures.pieces),
    calls: number(power.calls),
    overlapping: percent(power.overlapping, power.calls),
    open: number(power.open),
    "open-share": percent(power.open, power.calls),
    "still-open": number(power.open - power.resolved),
    grants: number(figures.grants),
    writes: number(figures.writes),
    beliefs: number(figures.beliefs),
    decided: number(searches.decided),
    undecided: number(searches.undecided),
    violations: number(figures.violations.length),
    controls: `${killed.length} of ${Object.keys(figures.controls).length}`,
    "slowest-control": `${Math.max(...killed.map(Number))} s`,
    faults: faultsTable(figures),
    "left-out": Object.keys(figures.left_out).join(", ") || "none",
  };
  return text.replace(/<!--soak:([\w-]+)-->[\s\S]*?<!--\/soak-->/g, (_, name) => {
    const value = values[name];
    if (value === undefined) throw new Error(`there is no figure ${name}`);
    return `<!--soak:${name}-->${value}<!--/soak-->`;
  });
}

function faultsTable({ faults }: Figures): string {
  const rows = FAULTS.flatMap(({ name, says }) => {
    const one = faults[name];
    if (!one) return [];
    const lost = one.lost ? number(one.lost) : "–";
    return [`| \`${name}\` | ${says} | ${number(one.strikes)} | ${number(one.calls)} | ${lost} |`];
  });
  return [
    "\n\n| flag | fault | times | calls | lost |",
    "| --- | --- | ---: | ---: | ---: |",
    ...rows,
    "\n",
  ].join("\n");
}
