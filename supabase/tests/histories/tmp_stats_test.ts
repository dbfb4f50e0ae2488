import { record } from "./record.ts";
Deno.test("stats", async () => {
  const h = await record({ seconds: 4, seed: 3, sqlClients: 8, httpClients: 0 });
  const m = new Map<string, number>();
  const dur = new Map<string, number[]>();
  for (const c of h.calls) {
    const a = c.answer;
    const o = !a ? "?" : a.code ?? a.sqlstate ??
      (a.acquired === false || a.renewed === false || a.released === false || a.reason
        ? a.reason + (a.end_reason ? " " + a.end_reason : "")
        : "yes");
    const k = `${c.names.join("+")} ${c.op} ${c.ask.takeOver ? "T" : ""}${
      c.ask.force ? "F" : ""
    } ${o}`;
    m.set(k, (m.get(k) ?? 0) + 1);
    const d = dur.get(c.op) ?? [];
    d.push(((c.returned ?? c.called) - c.called) / 1000);
    dur.set(c.op, d);
  }
  for (const [k, v] of [...m].sort()) console.log(v, k);
  for (const [k, v] of dur) {
    v.sort((a, b) => a - b);
    console.log(k, v.length, v[v.length >> 1], v.at(-1));
  }
});
