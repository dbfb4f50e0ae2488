// What the docs say in a form that can be run or compared is run and compared.
import { assertEquals } from "@std/assert";
import { ERRORS } from "../../functions/_shared/errors.ts";
import { openSession } from "../support/race.ts";

const read = (path: string) => Deno.readTextFile(new URL(`../../../${path}`, import.meta.url));

Deno.test("docs/reference/errors.md lists every error of the table, with its status, and no other", async () => {
  const rows = [...(await read("docs/reference/errors.md")).matchAll(/^\| `([A-Z_]+)`\s*\| (\d+)\s*\|/gm)]
    .map(([, code, status]) => [code, Number(status)]);
  assertEquals(rows, Object.entries(ERRORS).map(([code, { status }]) => [code, status]));
});

Deno.test("the queries of docs/operating/watch.md run", async () => {
  const queries = [...(await read("docs/operating/watch.md")).matchAll(/```sql\n([\s\S]*?)```/g)].map((
    [, query],
  ) => query!);
  assertEquals(queries.length >= 7, true);
  await using session = openSession();
  await session.run`begin`;
  for (const query of queries) await session.run.unsafe(query);
  await session.run`rollback`;
});

Deno.test("docs/reference/http.md names all promises, and each is shown by tests that carry its number", async () => {
  const promises = [...(await read("docs/reference/http.md")).matchAll(/^- \*\*(P\d+) /gm)].map((
    [, promise],
  ) => promise!);
  assertEquals(promises, Array.from({ length: 10 }, (_, i) => `P${i + 1}`));
  let tests = "";
  for (const folder of ["supabase/tests/contract", "supabase/tests/trust"]) {
    for (const { name } of Deno.readDirSync(new URL(`../../../${folder}`, import.meta.url))) {
      if (name.endsWith("_test.ts")) tests += await read(`${folder}/${name}`);
    }
  }
  assertEquals(
    promises.filter((promise) => !new RegExp(`Deno\\.test\\(\\s*["\`]${promise} `).test(tests)),
    [],
  );
});
