import type { Call, History, Violation } from "./history.ts";

const WIDTH = 1600;
const LEFT = 110;
const ROW = 26;
const COLOURS: Record<string, string> = {
  acquire: "#4c78a8",
  renew: "#72b7b2",
  release: "#f58518",
  write: "#54a24b",
  advance: "#88d27a",
};

/**
 * Draws what happened around a violation: a row for each caller, a bar for each call, and above them the leases of each lock.
 *
 * @param history The history.
 * @param violation What to show. Its calls have a red frame.
 * @returns An SVG.
 */
export function timeline(history: History, violation: Violation): string {
  const shown = history.calls.filter(({ n }) => violation.calls.includes(n));
  const end = (call: Call) => call.returned ?? call.called + 50_000;
  const newest = Math.max(...shown.map(end));
  // what led to it is of interest, not what the same lock_id saw long before
  const from = Math.max(newest - 3e6, Math.min(...shown.map(({ called }) => called))) - 50_000;
  const to = newest + 50_000;
  const x = (time: number) =>
    LEFT + (Math.min(Math.max(time, from), to) - from) / (to - from) * (WIDTH - LEFT - 20);
  const calls = history.calls.filter((call) => end(call) >= from && call.called <= to);
  const grants = history.grants.filter((grant) =>
    grant.lockedAt <= to && (grant.endedAt ?? Infinity) >= from
  );
  const rows = [
    ...[...new Set(grants.map(({ key }) => key))].sort(),
    ...[...new Set(calls.map(({ client }) => client))].sort(),
  ];
  const y = (row: string) => 40 + rows.indexOf(row) * ROW;
  const leases = grants.map((grant) =>
    box(x(grant.lockedAt), x(grant.endedAt ?? to), y(grant.key), "#ddd", "#999", {
      text: `${grant.holder.slice(0, 8)} ${grant.id.slice(0, 4)}`,
      title: JSON.stringify(grant),
    })
  );
  const bars = calls.map((call) =>
    box(
      x(call.called),
      x(end(call)),
      y(call.client),
      COLOURS[call.op] ?? "#b279a2",
      violation.calls.includes(call.n) ? "#e00" : call.returned === null ? "#000" : "none",
      { text: `${call.n} ${call.op}`, title: JSON.stringify(call) },
    )
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${
    60 + rows.length * ROW
  }" font-family="sans-serif" font-size="10">
<text x="10" y="16" font-size="13">${escape(violation.what)}</text>
<text x="10" y="31">${escape(violation.why.slice(0, 260))}</text>
${
    rows.map((row) =>
      `<text x="4" y="${y(row) + 16}">${escape(row.replace(/^[0-9a-f-]{36} /, ""))}</text>`
    ).join("\n")
  }
${leases.join("\n")}
${bars.join("\n")}
<text x="${LEFT}" y="${50 + rows.length * ROW}">${((to - from) / 1000).toFixed(1)} ms</text>
</svg>`;
}

function box(
  from: number,
  to: number,
  y: number,
  fill: string,
  stroke: string,
  { text, title }: { text: string; title: string },
): string {
  const width = Math.max(2, to - from);
  const fits = width > text.length * 6;
  return `<g><title>${escape(title)}</title><rect x="${from.toFixed(1)}" y="${y + 2}" width="${
    width.toFixed(1)
  }" height="${ROW - 6}" fill="${fill}" stroke="${stroke}" stroke-width="2"/>${
    fits ? `<text x="${(from + 3).toFixed(1)}" y="${y + 16}">${escape(text)}</text>` : ""
  }</g>`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
