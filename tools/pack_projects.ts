import { join } from "node:path";
import { firstProgram } from "../client/support/programs.ts";

/** What a caller's page or worker may look like; it has to compile strictly, and to run. */
const CALLER = `
import { createClient } from "@supabase/supabase-js";
import { createLockClient, LockError } from "holdfast";
const supabase = createClient("http://127.0.0.1:9", "sb_secret_none", {});
const locks = createLockClient(supabase, { holder: "worker-1" });
const key = { video_id: "00000000-0000-4000-8000-000000000101", database_name: "layout" };
const error = await locks.acquire(key, { ifAvailable: true }).catch((error) => error);
if (!(error instanceof LockError) || error.code !== "NO_ANSWER") throw error;
console.log("used");
`;

/** Only types: the locks of a video stand where lib.dom's are wanted. */
const TYPES = `
import { createClient } from "@supabase/supabase-js";
import { createLockClient, type Lease } from "holdfast";
const locks = createLockClient(createClient("http://127.0.0.1:9", "key"));
export const manager: Pick<LockManager, "query" | "request"> = locks.forVideo("video");
export const number: Promise<number> = locks.forVideo("video").request("layout", async () => 1);
export const text: Promise<string> =
  locks.request({ video_id: "", database_name: "" }, { ttlSeconds: 60 }, (lease: Lease) => lease.name);
export const lock: Promise<Lease | null> =
  locks.acquire({ video_id: "", database_names: ["a", "b"] }, { ifAvailable: true });
`;

const VITE_CONFIG = {
  compilerOptions: {
    ...{ target: "ES2022", lib: ["ES2022", "DOM", "DOM.Iterable"], module: "ESNext" },
    ...{ moduleResolution: "bundler", strict: true, noEmit: true, skipLibCheck: true, types: [] },
  },
  include: ["*.ts"],
};

async function inProject(folder: string, command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd: folder,
    env: { npm_config_update_notifier: "false" },
  }).output();
  const text = new TextDecoder().decode(stdout);
  if (!success) throw new Error(`${command} ${args}:\n${text}${new TextDecoder().decode(stderr)}`);
  return text;
}

async function project(files: Record<string, string>, ...packages: string[]): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-pack-" });
  const all = { "package.json": JSON.stringify({ private: true, type: "module" }), ...files };
  for (const [name, text] of Object.entries(all)) {
    await Deno.writeTextFile(join(folder, name), text);
  }
  await inProject(folder, "npm", "install", "--no-audit", "--no-fund", ...packages);
  return folder;
}

/** `npx holdfast install` in a Supabase project. */
async function tryInstall(folder: string, version: string): Promise<void> {
  await Deno.mkdir(join(folder, "supabase"));
  await Deno.writeTextFile(join(folder, "supabase/config.toml"), 'project_id = "own"\n');
  const bin = "node_modules/holdfast/bin/holdfast.js";
  const node = ["--yes", `--package=node@${version}`, "node", bin, "install", "--yes"];
  await inProject(folder, "npx", ...node);
  const again = await inProject(folder, "npx", ...node);
  if (!again.includes("There is nothing to do")) throw new Error(again);
  console.log(`Node ${version}: installed`);
}

/** Opens what Vite has built in Chromium, and gives what the page says in the end. */
async function show(dist: string): Promise<string> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    const file = await Deno.readFile(join(dist, pathname === "/" ? "index.html" : pathname))
      .catch(() => undefined);
    const type = pathname.endsWith(".js") ? "text/javascript" : "text/html";
    return new Response(file as BodyInit, {
      status: file ? 200 : 404,
      headers: { "content-type": type },
    });
  });
  const url = `http://127.0.0.1:${server.addr.port}/`;
  const page = await inProject(
    ...[dist, await firstProgram(), "--headless=new", "--no-sandbox"] as const,
    ...["--virtual-time-budget=30000", "--dump-dom", url],
  );
  await server.shutdown();
  const text = /<body[^>]*>([^<]*)/.exec(page)?.[1]?.trim();
  if (text !== "used in a page") throw new Error(`The page says:\n${page}`);
  return text;
}

/**
 * Installs the tarball where nothing else is, and uses it: in Node 20, in Node 24, and in a Vite project in TypeScript.
 *
 * @param tarball Path of the tarball.
 * @param peer supabase-js, as npm names it.
 */
export async function tryInProjects(tarball: string, peer: string): Promise<void> {
  for (const version of ["20.19.0", "24.9.0"]) {
    // Node 20 has no WebSocket, and supabase-js wants one at hand even where Realtime is not used
    const caller = CALLER.replace("{});", "{ realtime: { transport: class {} } });");
    const folder = await project({ "main.js": caller }, tarball, peer);
    const node = ["--yes", `--package=node@${version}`, "node", "main.js"];
    console.log(`Node ${version}: ${(await inProject(folder, "npx", ...node)).trim()}`);
    await tryInstall(folder, version);
    await Deno.remove(folder, { recursive: true });
  }
  const files = {
    "index.html": '<script type="module" src="/main.ts"></script>',
    "main.ts": `${CALLER}\ndocument.body.textContent = "used in a page";`,
    "types.ts": TYPES,
    "tsconfig.json": JSON.stringify(VITE_CONFIG),
  };
  const folder = await project(files, tarball, peer, "vite@8.3.8", "typescript@5.9.3");
  await inProject(folder, "npx", "tsc");
  await inProject(folder, "npx", "vite", "build", "--target", "es2022");
  console.log(`Vite with TypeScript: ${await show(join(folder, "dist"))}`);
  await Deno.remove(folder, { recursive: true });
}
