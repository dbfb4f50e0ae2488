import type { Row } from "./mutation.ts";

/** By the file that is broken, below local; the tests are those below local/tests. */
export const OF_THE_STACK: Record<string, Row[]> = {
  "environment": [
    [
      "libpq's variables change every connection",
      "if (/^PG[A-Z_]+$/.test(name)) Deno.env.delete(name);",
      "void name;",
      "start",
      "PG* variables and a proxy",
    ],
    [
      "loopback goes through the proxy",
      'for (const name of ["NO_PROXY", "no_proxy"]) Deno.env.set(name, value);',
      "void value;",
      "start",
      "PG* variables and a proxy",
    ],
  ],
  "main": [
    [
      "a start is deaf to Ctrl-C",
      "    signal: interrupt.signal,\n",
      "",
      "start",
      "SIGTERM ends a start",
    ],
  ],
  "stack": [
    [
      "giving up waits for a step",
      "Promise.race([work, givenUp])",
      "work",
      "start",
      "giving up does not wait",
    ],
  ],
  "functions/edge_functions": [
    [
      "a function has this process's environment",
      "clearEnv: true,\n      stdin",
      "stdin",
      "stack",
      "a function gets what the platform gives",
    ],
    [
      "a function that hangs is waited for",
      'process.kill("SIGKILL");\n    } catch {',
      "void 0;\n    } catch {",
      "start",
      "giving up does not wait for a function",
    ],
  ],
  "postgres/postgres": [
    [
      "an error that does not pass is waited for",
      "if (!PASSES.test(error.code ?? error.message)) throw new NotReady(error);",
      "",
      "start",
      "an error that does not pass",
    ],
    [
      "a start that is given up goes on waiting",
      "await delay(30, undefined, this.#options.signal && { signal: this.#options.signal });",
      "await delay(30);",
      "start",
      "giving up does not wait for a PostgreSQL",
    ],
    [
      "keys that were lost lock the database",
      "if ((error as { code?: string }).code !== WRONG_PASSWORD || passwordIsSet) throw error;",
      "throw error;",
      "start",
      "keys.json is lost",
    ],
    [
      "PostgreSQL that died stays dead",
      "        this.#supervise();\n",
      "",
      "stack",
      "PostgreSQL that is killed",
    ],
  ],
  "postgres/cluster": [
    [
      "a postmaster.pid that was left stops the start",
      'return await Deno.writeTextFile(file, [Deno.pid, ...rest].join("\\n"));',
      "return;",
      "start",
      "a postmaster.pid that was left behind",
    ],
    [
      "a PostgreSQL that runs on the folder is disowned",
      "if (!await runsOn(directory, pid)) {",
      "if (true) {",
      "start",
      "a PostgreSQL that still runs",
    ],
  ],
  "postgres/migrate": [
    [
      "an edited migration is passed over",
      'if (statements && text(statements.join(";\\n")) !== text(script!)) {',
      "if (false) {",
      "stack",
      "a migration that was edited",
    ],
    [
      "a deleted migration is passed over",
      "if (path === undefined) {",
      "if (path === undefined) continue; else if (false) {",
      "stack",
      "a migration that was deleted",
    ],
    [
      "a migration that came late is passed over",
      "  if (late) {\n",
      "  if (false) {\n",
      "stack",
      "a migration that came later",
    ],
    [
      "what the Supabase CLI has applied counts as edited",
      'return script.replace(/[\\s;]+/g, "");',
      "return script;",
      "stack",
      "files that are as they were applied",
    ],
    [
      "a seed that was edited is applied again",
      "    if (applied.has(path)) {\n",
      "    if (false) {\n",
      "stack",
      "a seed that was edited",
    ],
  ],
  "rest/schema_cache": [
    [
      "a new connection is made beside one that lives",
      "      await ended;\n      if (closed) return;",
      "      await delay(20);\n      if (closed) return;",
      "start",
      "the schema cache's connection",
    ],
    [
      "the schema cache does not come back",
      "        await connect();\n        await reload();\n",
      "        await delay(10);\n",
      "start",
      "the schema cache's connection",
    ],
  ],
  "rest/rpc": [
    [
      "a plan with a function's body passes to the next role",
      "const key = `${role} ${text}`;",
      "const key = text;",
      "stack",
      "a function that one role may call",
    ],
  ],
  "gateway": [
    [
      "a page cannot read what the gateway says",
      "return withCors(Response.json(body, { status, headers }));",
      "return Response.json(body, { status, headers });",
      "gateway",
    ],
    [
      "the preflight of a function that there is not fails",
      "if (isPreflight(request) && !origin) return preflight(request);",
      'if (isPreflight(request) && service !== "functions") return preflight(request);',
      "gateway",
    ],
    [
      "the preflight of a function that does not answer fails",
      "    if (isPreflight(request)) return preflight(request);\n",
      "",
      "gateway",
    ],
    [
      "a caller who hangs up keeps the function at work",
      "      signal: request.signal, // a caller who hangs up ends the work for it\n",
      "",
      "faults",
      "a caller who hangs up",
    ],
  ],
};
