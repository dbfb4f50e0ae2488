// Breaks the lock on purpose, one way at a time, and sees the tests fail: a lock test that passes against a broken lock is
// worthless. Each mutation is made in a copy of the migrations, on a stack of its own. `deno task test:mutations`.
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { startStack } from "../local/stack.ts";

const TENANTS = "20261122190000_tenants_and_videos.sql";
const ACQUIRE = "20261122190200_acquire_lock.sql";
const RELEASE = "20261122190300_release_lock.sql";
const RENEW = "20261122190400_renew_lock.sql";
const FENCING = "20261122190500_fencing.sql";
const CLEAN_UP = "20261122190600_release_expired_locks.sql";
const LOCKS = "20261122190100_locks.sql";

/** What is broken, where, and the file of tests that has to notice. */
const MUTATIONS: [what: string, migration: string, from: string, to: string, test: string][] = [
  [
    "a grant does not look whether the row is still as it was read",
    ACQUIRE,
    "and s.fencing_token = v_seen.fencing_token\n        and s.lock_expires_at is not distinct from v_seen.lock_expires_at",
    "",
    "edges",
  ],
  [
    "a grant looks at the expiry only, as if a lock_id could not come back",
    ACQUIRE,
    "and s.fencing_token = v_seen.fencing_token\n",
    "\n",
    "edges",
  ],
  [
    "a lease begins when the caller began to wait",
    ACQUIRE,
    "> interval '5 milliseconds'",
    "> interval '1 hour'",
    "edges",
  ],
  [
    "expiry is judged by the transaction's start",
    ACQUIRE,
    "v_now := clock_timestamp();\n    if v_seen",
    "v_now := now() - interval '2 s';\n    if v_seen",
    "edges",
  ],
  [
    "an ended lock_id is granted anew",
    ACQUIRE,
    "and h.lock_id = p_lock_id;\n    v_now",
    "and false;\n    v_now",
    "lock_acquire",
  ],
  [
    "an ended lock_id is looked up, and not looked at",
    ACQUIRE,
    "if v_seen.lock_id is not null or v_seen.end_reason is not null then",
    "if v_seen.lock_id is not null then",
    "lock_acquire",
  ],
  [
    "an expired lock_id is granted anew",
    ACQUIRE,
    "elsif not v_held then",
    "elsif false then",
    "lock_acquire",
  ],
  [
    "the same acquire again is refused",
    ACQUIRE,
    "if v_held and v_mine then",
    "if false then",
    "lock_acquire",
  ],
  [
    "somebody else's lock_id is as good as one's own",
    ACQUIRE,
    "if v_held and v_mine then",
    "if v_held then",
    "lock_acquire",
  ],
  [
    "tokens stand still",
    ACQUIRE,
    "v_token := v_seen.fencing_token + 1;",
    "v_token := v_seen.fencing_token;",
    "lock_acquire",
  ],
  [
    "tokens begin anew with the row",
    LOCKS,
    "if old.fencing_token > 0 then",
    "if false then",
    "lock_acquire",
  ],
  [
    "a deleted row's lease leaves no history",
    LOCKS,
    "if old.lock_id is not null then",
    "if false then",
    "lock_renew",
  ],
  [
    "take_over takes anybody's lease",
    ACQUIRE,
    "not (p_take_over and v_mine)",
    "not p_take_over",
    "take_over",
  ],
  [
    "an expired lease that is taken leaves no history",
    ACQUIRE,
    "if v_seen.lock_id is not null then",
    "if false then",
    "seed_scenarios",
  ],
  [
    "any user may lock any video",
    ACQUIRE,
    "if not v_server then\n      perform from public.tenant_members",
    "if false then\n      perform from public.tenant_members",
    "errors",
  ],
  [
    "a membership is found among all that its user has",
    TENANTS,
    "on public.tenant_members (user_id, tenant_id)",
    "on public.tenant_members (user_id)",
    "other_tenants",
  ],
  [
    "a refusal locks the row",
    ACQUIRE,
    "    if v_held and not (p_take_over",
    "    perform from public.video_database_state s where s.video_id = p_video_id for key share;\n    if v_held and not (p_take_over",
    "lock_acquire",
  ],
  ["half a lock can be stored", LOCKS, "% 6 = 0", ">= 0", "lock_acquire"],
  [
    "a release ends whatever lease there is",
    RELEASE,
    "and (p_lock_id is null or v_old.lock_id = p_lock_id)",
    "",
    "lock_release",
  ],
  [
    "a release ends anybody's lease",
    RELEASE,
    "and (v_holder is null or v_old.lock_holder_user_id = v_holder)",
    "",
    "lock_release",
  ],
  [
    "a server releases a user's lease",
    RELEASE,
    "and (p_force or v_old.lock_type = v_type)\n",
    "\n",
    "lock_release",
  ],
  [
    "any member may release by force",
    RELEASE,
    "elsif v_role <> 'admin' then",
    "elsif false then",
    "lock_release",
  ],
  [
    "a lease that ran out while its release waited counts as released",
    RELEASE,
    "when v_old.lock_expires_at <= v_now then 'expired'",
    "when false then 'expired'",
    "edges",
  ],
  [
    "a repeated release is told that there is nothing",
    RELEASE,
    "if v_ended.end_reason = 'released' then",
    "if false then",
    "lock_release",
  ],
  [
    "a renewal judges before it has the row",
    RENEW,
    "  v_now := clock_timestamp();\n  if v_seen",
    "  v_now := now();\n  if v_seen",
    "edges",
  ],
  [
    "a renewal revives what ran out",
    RENEW,
    "  if v_seen.lock_expires_at > v_now then\n    update",
    "  if v_seen.lock_id is not null then\n    update",
    "lock_renew",
  ],
  [
    "a renewal moves the expiry backwards",
    RENEW,
    "greatest(s.lock_expires_at, v_now + make_interval(secs => p_ttl_seconds))",
    "v_now + make_interval(secs => p_ttl_seconds)",
    "lock_renew",
  ],
  [
    "a renewal is anybody's",
    RENEW,
    "and s.lock_type = v_type and (v_server or s.lock_holder_user_id = v_holder)\n  for",
    "for",
    "lock_renew",
  ],
  [
    "a renewal by nobody counts as activity",
    RENEW,
    "case when p_active then v_now else s.last_activity_at end",
    "v_now",
    "lock_renew",
  ],
  [
    "the guard does not hold the row",
    FENCING,
    "and s.fencing_token = p_fencing_token\n  for no key update;",
    "and s.fencing_token = p_fencing_token;",
    "fencing",
  ],
  [
    "the guard shares the row, and two writers deadlock",
    FENCING,
    "p_fencing_token\n  for no key update;",
    "p_fencing_token\n  for share;",
    "fencing",
  ],
  [
    "the guard forgets that leases end",
    FENCING,
    "if v_seen.lock_expires_at > v_now\n",
    "if v_seen.lock_id is not null\n",
    "fencing",
  ],
  [
    "the guard takes an older token",
    FENCING,
    "and s.fencing_token = p_fencing_token\n",
    "and s.fencing_token >= p_fencing_token\n",
    "fencing",
  ],
  [
    "the guard takes a guessed token",
    FENCING,
    "and (v_server or v_seen.lock_type = 'client' and v_seen.lock_holder_user_id = v_user::text)",
    "",
    "fencing",
  ],
  [
    "the clean-up waits",
    CLEAN_UP,
    "for no key update skip locked",
    "for no key update",
    "release_expired_locks",
  ],
  [
    "the clean-up takes the living too",
    CLEAN_UP,
    "where s.lock_expires_at <= v_now",
    "where s.lock_id is not null",
    "release_expired_locks",
  ],
];

let survived = 0;
for (const [what, migration, from, to, test] of MUTATIONS) {
  const project = await Deno.makeTempDir({ prefix: "holdfast-mutation-" });
  try {
    await cp(join(import.meta.dirname!, "../supabase"), join(project, "supabase"), {
      recursive: true,
    });
    const file = join(project, "supabase", "migrations", migration);
    const sql = await Deno.readTextFile(file);
    if (sql.split(from).length !== 2) {
      throw new Error(`${migration} does not have exactly one ${JSON.stringify(from)}`);
    }
    await Deno.writeTextFile(file, sql.replace(from, () => to));
    const stack = await startStack({ project });
    try {
      const { success } = await new Deno.Command(Deno.execPath(), {
        args: [
          "test",
          "-A",
          "--no-check",
          "--quiet",
          "--unstable-no-legacy-abort",
          await testFile(test),
        ],
        env: {
          SUPABASE_URL: stack.url,
          SUPABASE_PUBLISHABLE_KEY: stack.publishableKey,
          SUPABASE_SECRET_KEY: stack.secretKey,
          SUPABASE_DB_URL: stack.dbUrl,
        },
        stdout: "null",
        stderr: "null",
      }).output();
      console.log(`${success ? "SURVIVED" : "noticed "}  ${what}  (${test}_test.ts)`);
      if (success) survived++;
    } finally {
      await stack.stop();
    }
  } finally {
    await Deno.remove(project, { recursive: true });
  }
}
console.log(`\n${MUTATIONS.length - survived} of ${MUTATIONS.length} mutations were noticed`);
Deno.exit(survived === 0 ? 0 : 1);

/** Where a file of tests lies: in either of the two folders. */
async function testFile(name: string): Promise<string> {
  const tests = join(import.meta.dirname!, "../supabase/tests");
  for (const folder of ["contract", "trust"]) {
    const path = join(tests, folder, `${name}_test.ts`);
    if (await Deno.stat(path).then(() => true, () => false)) return path;
  }
  throw new Error(`There is no ${name}_test.ts below ${tests}`);
}
