// docs/internals/correctness.md says what a run said, and faults-found.md names tests that exist.
import { assert, assertEquals } from "@std/assert";
import { fillPage } from "./faults/page.ts";

const DOCS = new URL("../../../docs/internals/", import.meta.url);
const read = (name: string) => Deno.readTextFile(new URL(name, DOCS));
/** Without what formatting may change. */
const plain = (text: string) => text.replace(/[\s]+/g, "").replace(/-{2,}:?/g, "-");

Deno.test("the page on correctness has the figures of the run that was kept", async () => {
  const figures = JSON.parse(await Deno.readTextFile(new URL("soak.json", import.meta.url)));
  const page = await read("correctness.md");
  assertEquals(plain(fillPage(page, figures)), plain(page));
  assertEquals(figures.violations, []);
});

Deno.test("each fault that was found has a test, and a commit where it last showed", async () => {
  const [, table] = (await read("faults-found.md")).split(/<!--\/?found-->/);
  const rows = table!.trim().split("\n").slice(2).map((row) =>
    row.split("|").slice(1, -1).map((cell) => cell.trim())
  );
  assert(rows.length > 20);
  for (const [fault, file, part, commit] of rows) {
    const source = await Deno.readTextFile(new URL(`../${file}_test.ts`, import.meta.url));
    const names = [...source.matchAll(/Deno\.test\(\s*(?:"([^"]*)"|`([^`]*)`)/g)]
      .map(([, name, template]) => name ?? template!);
    assert(
      names.some((name) => name.includes(part!)),
      `${fault}: no test of ${file} has "${part}"`,
    );
    assert(/^[0-9a-f]{7}\^?$/.test(commit!), `${fault}: ${commit}`);
  }
});
