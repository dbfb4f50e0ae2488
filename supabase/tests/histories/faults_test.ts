// Histories under faults have a stack of their own (faults/main.ts), which may be killed. The gate has a short one with the faults
// that every machine can have; SOAK=1 has all of them, one by one and together.
import { assertEquals } from "@std/assert";
import { isSoak } from "../support/soak.ts";

const PROJECT = `${import.meta.dirname}/../../..`;
const FLAGS = isSoak
  ? ["--seconds", "180"]
  : ["--mix", "kill+stop+network+terminate", "--piece", "3.5", "--seconds", "1"];

Deno.test("recorded histories hold every promise while PostgreSQL is killed, processes stop, and the network fails", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "supabase/tests/histories/faults/main.ts", ...FLAGS],
    cwd: PROJECT,
  }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(code, 0, said);
  if (isSoak) console.log(said);
});
