// What the docs say in a form that can be run or compared is run and compared.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ERRORS } from "../../functions/_shared/errors.ts";
import {
  ACQUIRE_REASONS,
  DATABASE_NAME,
  DATABASE_NAMES,
  DEADLINE_MS,
  END_REASONS,
  HOLDER_CHARACTERS,
  MAX_BODY_BYTES,
  QUEUE_SECONDS,
  RELEASE_REASONS,
  RENEW_REASONS,
  TTL_SECONDS,
} from "../../functions/_shared/rules.ts";
import { openSession } from "../support/race.ts";
import { secretKey, sql, url } from "../support/stack.ts";

const PROJECT = new URL("../../../", import.meta.url);
const read = (path: string) => Deno.readTextFileSync(new URL(path, PROJECT));

Deno.test("docs/reference/errors.md lists every error of the table, with its status, and no other", () => {
  const rows = [...read("docs/reference/errors.md").matchAll(/^\| `([A-Z_]+)` +\| (\d+) +\|/gm)]
    .map(([, code, status]) => [code, Number(status)]);
  assertEquals(rows, Object.entries(ERRORS).map(([code, { status }]) => [code, status]));
});

Deno.test("docs/reference says the limits that the functions have", () => {
  const range = ({ min, max, ...rest }: { min: number; max: number; default?: number }) =>
    `${min} to ${max}` + (rest.default === undefined ? "" : `, default ${rest.default}`);
  const pages = { limits: read("docs/reference/limits.md"), http: read("docs/reference/http.md") };
  const missing = Object.entries({
    ttl_seconds: range(TTL_SECONDS),
    queue_seconds: range(QUEUE_SECONDS),
    lock_holder_user_id: `${range(HOLDER_CHARACTERS)} characters`,
    database_name: `\`${DATABASE_NAME.source}\``,
    database_names: `${range(DATABASE_NAMES)} different names`,
  }).flatMap(([field, limit]) =>
    Object.entries(pages).filter(([, text]) =>
      !text.split("\n").some((line) => line.startsWith(`| \`${field}\` `) && line.includes(limit))
    ).map(([page]) => `${page}: ${field} ${limit}`)
  );
  assertEquals(missing, []);
  assertStringIncludes(pages.limits, `| ${MAX_BODY_BYTES / 1024} KiB `);
  assertStringIncludes(pages.limits, `| ${DEADLINE_MS / 1000} s `);
});

Deno.test("every page and comment that says how long a lease may be says what the rule says", () => {
  const said = ["supabase/schemas", "supabase/functions", "client", "docs"].flatMap(texts).flatMap((
    path,
  ) => [...read(path).matchAll(/\b1 to (\d{4})\b/g)].map(([, max]) => ({ path, max })));
  assert(said.length >= 9, "they are found");
  assertEquals(said.filter(({ max }) => max !== `${TTL_SECONDS.max}`), []);
});

Deno.test("the docs list the reasons that answers give", () => {
  const firstCells = (path: string) =>
    [...read(path).matchAll(/^\| `(\w+)` +\|/gm)].map(([, word]) => word!);
  assertEquals(
    firstCells("docs/concepts/leases.md").toSorted(),
    END_REASONS.filter((reason) => reason !== "cancelled").toSorted(),
    "the leases' ends",
  );
  assertEquals(firstCells("docs/concepts/waiting.md").toSorted(), ACQUIRE_REASONS.toSorted());
  for (
    const [answer, reasons] of [["renewed", RENEW_REASONS], ["released", RELEASE_REASONS]] as const
  ) {
    const rows = read("docs/reference/http.md").split("\n").filter((line) =>
      line.startsWith(`| \`"${answer}": false\``)
    );
    const named = new Set([...rows.join().matchAll(/(\w+)"?`/g)].map(([, word]) => word));
    assertEquals(reasons.filter((reason) => !named.has(reason)), [], answer);
  }
});

for (const { path, blocks } of pagesWithSql()) {
  Deno.test(`the SQL of ${path} runs`, async () => {
    await using session = openSession();
    await session.run`begin`;
    for (const block of blocks) await session.run.unsafe(block);
    await session.run`rollback`;
  });
}

Deno.test("the pages for operators have SQL that is run", () => {
  const pages = pagesWithSql().map(({ path }) => path);
  for (const page of ["clocks", "growth", "restore", "watch"]) {
    assert(pages.includes(`docs/operating/${page}.md`), page);
  }
});

for (
  const [page, expected] of Object.entries({
    "README.md": ["acquired", "released"],
    "docs/how-to/without-the-client.md": ["acquired", "released"],
    "docs/start/quickstart.md": ["acquired", "held", "released", "acquired"],
  })
) {
  Deno.test(`the shell commands of ${page} run, and get the answers that they should`, async () => {
    const blocks = [...read(page).matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block!);
    const script = blocks.filter((block) => !/^(npx|export) /m.test(block)).join("");
    const { stdout, stderr } = await new Deno.Command("bash", {
      args: ["-euc", script.replaceAll("curl ", "curl -w '\\n' ")],
      env: { SUPABASE_URL: url, SUPABASE_SECRET_KEY: secretKey },
    }).output();
    const answers = new TextDecoder().decode(stdout).split("\n").filter(Boolean).map((line) =>
      JSON.parse(line)
    );
    await sql`select public.release_lock(${DEMO_VIDEO}, 'layout', force => true)`;
    assertEquals(
      answers.map(({ acquired, released, reason, code }) =>
        code ?? reason ?? (acquired ? "acquired" : released ? "released" : "?")
      ),
      expected,
      new TextDecoder().decode(stderr),
    );
  });
}

Deno.test("docs/concepts/promises.md names all promises, and each is shown by tests that carry its number", () => {
  const promises = [...read("docs/concepts/promises.md").matchAll(/^- \*\*P(\d+) /gm)].map(
    ([, number]) => Number(number),
  ).sort((a, b) => a - b);
  assertEquals(promises, Array.from({ length: 12 }, (_, i) => i + 1));
  let tests = "";
  for (const folder of ["supabase/tests/contract", "supabase/tests/trust"]) {
    for (const { name } of Deno.readDirSync(new URL(folder, PROJECT))) {
      if (name.endsWith("_test.ts")) tests += read(`${folder}/${name}`);
    }
  }
  assertEquals(
    promises.filter((promise) => !new RegExp(`Deno\\.test\\(\\s*["\`]P${promise} `).test(tests)),
    [],
  );
});

/** The video that the seed brings and the pages lock. */
const DEMO_VIDEO = "00000000-0000-4000-8000-000000000101";

/** The paths of all pages and sources below a folder. */
function texts(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, PROJECT))].flatMap(({ name, isDirectory }) =>
    isDirectory
      ? texts(`${folder}/${name}`)
      : /\.(md|sql|tsx?)$/.test(name)
      ? [`${folder}/${name}`]
      : []
  );
}

/** The pages of docs, each with its blocks that begin with ```sql; those with ```sql ignore are left out. */
function pagesWithSql(folder = "docs"): { path: string; blocks: string[] }[] {
  return [...Deno.readDirSync(new URL(folder, PROJECT))].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return pagesWithSql(path);
    if (!name.endsWith(".md")) return [];
    const blocks = [...read(path).matchAll(/^```sql\n([\s\S]*?)^```$/gm)].map(([, sql]) => sql!);
    return blocks.length > 0 ? [{ path, blocks }] : [];
  });
}
