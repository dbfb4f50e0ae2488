import { join } from "node:path";
import { assertEquals, assertGreater } from "@std/assert";
import { afterAll, publishableKey, secretKey, sql, url } from "../supabase/tests/support/stack.ts";
import { newTenant } from "../supabase/tests/support/tenant.ts";

// What a newcomer copies has to work as it stands: every TypeScript block of these pages is type-checked, and runs on the
// stack as a program of its own, with what the page takes for granted around it.

const PROJECT = join(import.meta.dirname!, "..");
const PAGES = [
  "README.md",
  "docs/reference/client.md",
  "docs/how-to/lock-from-a-page.md",
  "docs/how-to/run-a-worker.md",
  "docs/how-to/wait-for-a-lock.md",
];
/** The most that a caller has to write by hand. */
const MOST_LINES = 5;

/** What a block takes for granted, unless it says it itself. */
const GIVEN: Record<string, string> = {
  createClient: `import { createClient } from "@supabase/supabase-js";`,
  createLockClient: `import { createLockClient } from "../client/mod.ts";`,
  url: `const url = Deno.env.get("SUPABASE_URL")!;`,
  publishableKey: `const publishableKey = Deno.env.get("SUPABASE_PUBLISHABLE_KEY")!;`,
  secretKey: `const secretKey = Deno.env.get("SUPABASE_SECRET_KEY")!;`,
  video_id: `const video_id = Deno.args[0]!;`,
  rows: `const rows = [{ video_id: Deno.args[0]!, line: 1, text: "Hello" }];`,
  supabase:
    `const supabase = createClient(url, publishableKey, { accessToken: async () => Deno.args[1]! });`,
  worker: `const worker = createClient(url, secretKey);`,
  locks: `const locks = createLockClient(worker, { holder: "worker-1" });`,
};

/** Calls the edge function of a block. */
const CALL = `
const body = { video_id: Deno.args[0], rows: [{ video_id: Deno.args[0], line: 2, text: "Bye" }] };
const headers = { authorization: "Bearer " + Deno.args[1] };
const post = { method: "POST", headers, body: JSON.stringify(body) };
const { status } = await served.fetch(new Request("http://127.0.0.1", post));
if (status !== 204) throw new Error(String(status));
`;

function program(block: string): string {
  // a user's page is signed in already, which the block says in a comment
  const text = block.replaceAll(`"holdfast"`, `"../client/mod.ts"`)
    .replace(
      "createClient(url, publishableKey)",
      `createClient(url, publishableKey, { accessToken: async () => Deno.args[1]! })`,
    );
  // an edge function is called as a user's page would call it
  const serves = text.includes("export default {");
  const called = text.replace("export default {", "const served = {");
  const missing = Object.entries(GIVEN)
    .filter(([name]) => !new RegExp(`(const|import \\{[^}]*) ?\\b${name}\\b`).test(text)).map((
      [, line],
    ) => line);
  return [...missing, called, serves ? CALL : "", "Deno.exit(0); // a page or a worker would go on"]
    .join("\n");
}

/** The application's own table, as docs/how-to/guard-a-table.md has it. */
Deno.test.beforeAll(async () => {
  await sql.unsafe(`
    create table public.captions (
      video_id uuid not null, line integer not null, text text, primary key (video_id, line));
    grant select, insert, update, delete on public.captions to authenticated, service_role;
    select holdfast.guard('public.captions', database => 'captions');
    notify pgrst, 'reload schema'`);
  afterAll(() =>
    sql.unsafe(`select holdfast.unguard('public.captions'); drop table public.captions`)
  );
});

/** The programs of all pages, as files. */
const folder = join(PROJECT, `.snippets-${crypto.randomUUID().slice(0, 8)}`);
const programs = await Promise.all(PAGES.map(async (page) => {
  const text = await Deno.readTextFile(join(PROJECT, page));
  const blocks = [...text.matchAll(/^```ts\b[^\n]*\n(.*?)^```/gms)].map(([, block]) => block!);
  const files = blocks.map((_, i) => join(folder, `${page.replaceAll("/", "-")}-${i}.ts`));
  return { page, blocks, files };
}));

async function deno(...args: string[]): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: PROJECT,
    env: {
      SUPABASE_URL: url,
      SUPABASE_PUBLISHABLE_KEY: publishableKey,
      SUPABASE_SECRET_KEY: secretKey,
    },
  }).output();
  const printed = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(success, true, printed);
}

Deno.test.beforeAll(async () => {
  await Deno.mkdir(folder);
  afterAll(() => Deno.remove(folder, { recursive: true }));
  for (const { blocks, files, page } of programs) {
    assertGreater(blocks.length, 0, page);
    for (const [i, block] of blocks.entries()) {
      await Deno.writeTextFile(files[i]!, program(block));
    }
  }
});

Deno.test("the snippets of README and docs have the right types", async () => {
  await deno("check", ...programs.flatMap(({ files }) => files)); // at once, as each start costs a second
});

for (const { page, files } of programs) {
  Deno.test(`the snippets of ${page} run`, async () => {
    await using tenant = await newTenant();
    const anna = await tenant.join("anna");
    for (const file of files) {
      await deno(
        "run",
        "-A",
        "--no-check",
        "--node-modules-dir=manual",
        file,
        tenant.video,
        anna.token,
      );
    }
  });
}

Deno.test("a lock from a page, and one from a worker, take five lines at most", async () => {
  for (const page of PAGES.slice(2, 4)) {
    const text = await Deno.readTextFile(join(PROJECT, page));
    const [, block = ""] = /^```ts[^\n]*\n(.*?)^```/ms.exec(text) ?? [];
    const lines = block.split("\n").filter((line) =>
      line.trim() !== "" && !line.startsWith("import")
    );
    assertGreater(MOST_LINES + 1, lines.length, page);
  }
});
