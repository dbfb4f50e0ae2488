// What CI runs is on another machine, so what can be known about it here is checked here.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { parse } from "@std/yaml";
import { join } from "node:path";
import { CLI } from "../../tools/supabase_cli.ts";

const PROJECT = join(import.meta.dirname!, "../..");
const FOLDER = join(PROJECT, ".github/workflows");

interface Workflow {
  on: Record<string, unknown>;
  permissions: Record<string, string>;
  concurrency: { group: string };
  jobs: Record<string, {
    "timeout-minutes": number;
    needs?: string;
    permissions?: Record<string, string>;
    steps: { uses?: string; run?: string; with?: Record<string, unknown> }[];
  }>;
}

/** The jobs that may do more than read the source, by workflow. */
const MAY_WRITE: Record<string, Record<string, Record<string, string>>> = {
  "release.yml": { release: { contents: "write" } },
};

for (const { name } of Deno.readDirSync(FOLDER)) {
  const source = Deno.readTextFileSync(join(FOLDER, name));
  const workflow = parse(source) as Workflow;
  const jobs = Object.values(workflow.jobs);
  const steps = jobs.flatMap((job) => job.steps);

  Deno.test(`${name}: may read the source and nothing else, but for what a job says, and ends`, () => {
    assertEquals(workflow.permissions, { contents: "read" });
    assertEquals(
      Object.fromEntries(
        Object.entries(workflow.jobs).flatMap(([job, { permissions }]) =>
          permissions ? [[job, permissions]] : []
        ),
      ),
      MAY_WRITE[name] ?? {},
    );
    assert(workflow.concurrency.group);
    for (const job of jobs) assert(job["timeout-minutes"] > 0);
  });

  Deno.test(`${name}: an action is a commit, named by its version; git credentials are not kept`, () => {
    for (const { uses, with: inputs } of steps) {
      if (!uses) continue;
      assertMatch(uses, /^[\w-]+\/[\w-]+@[0-9a-f]{40}$/);
      assertMatch(source, new RegExp(`${uses} # v\\d+\\.\\d+\\.\\d+\n`));
      if (uses.startsWith("actions/checkout@")) {
        assertEquals(inputs?.["persist-credentials"], false);
      }
      if (uses.startsWith("supabase/setup-cli@")) assertEquals(`supabase@${inputs?.version}`, CLI);
    }
  });

  Deno.test(`${name}: runs tasks that exist, with the Deno that .ci/run runs`, async () => {
    const { tasks } = JSON.parse(await Deno.readTextFile(join(PROJECT, "deno.json")));
    const [, version] = /deno@(\S+)/.exec(await Deno.readTextFile(join(PROJECT, ".ci/run")))!;
    for (const { run } of steps) {
      const [, deno, task] = /npx --yes deno@(\S+) task (\S+)/.exec(run ?? "") ?? [];
      if (!deno) continue;
      assertEquals(deno, version);
      assert(Object.hasOwn(tasks, task!), `deno task ${task}`);
    }
  });
}

Deno.test("the real Supabase is tested on every pull request and at 02:00 UTC", () => {
  const { on } = parse(Deno.readTextFileSync(join(FOLDER, "supabase.yml"))) as Workflow;
  assertEquals(Object.keys(on).sort(), ["pull_request", "schedule", "workflow_dispatch"]);
  assertEquals(on.schedule, [{ cron: "0 2 * * *" }]);
});

Deno.test("a release waits for the gate, and is made by a tag alone", () => {
  const { on, jobs } = parse(Deno.readTextFileSync(join(FOLDER, "release.yml"))) as Workflow;
  assertEquals(on, { push: { tags: ["v*"] } });
  assertEquals(jobs.release!.needs, "ok");
  assert(jobs.ok!.steps.some(({ run }) => run?.endsWith("task ok")));
});

Deno.test("every page and setting names the one version of the Supabase CLI", async () => {
  const { stdout } = await new Deno.Command("git", { args: ["ls-files"], cwd: PROJECT }).output();
  const named: string[] = [];
  for (const file of new TextDecoder().decode(stdout).trim().split("\n")) {
    if (!/\.(md|ya?ml|toml|tsx?|json)$|^\.ci\//.test(file) || /^deno\.lock$/.test(file)) continue;
    const source = await Deno.readTextFile(join(PROJECT, file)).catch(() => "");
    for (const [, a, b] of source.matchAll(/\bsupabase@(\d[\w.-]*)|Supabase CLI (\d[\d.]*\d)/g)) {
      assertEquals(`supabase@${a ?? b}`, CLI, file);
      named.push(file);
    }
  }
  for (const file of ["docs/start/on-supabase.md", "supabase/config.toml"]) {
    assert(named.includes(file), file);
  }
});
