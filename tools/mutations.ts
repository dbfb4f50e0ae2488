// Breaks the lock on purpose, one way at a time, and sees the tests fail: a lock test that passes against a broken lock is
// worthless. Each mutation is made in a copy of supabase/schemas, on a stack of its own. `deno task test:mutations`.
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { startStack } from "../local/stack.ts";
import { generatedMigrations } from "./migrations.ts";

const TESTS = join(import.meta.dirname!, "../supabase/tests");

/** What is broken, in which file of supabase/schemas, and the file of tests that has to notice. */
const MUTATIONS: [what: string, schema: string, from: string, to: string, test: string][] = [
  [
    "a grant does not look whether the row is still as it was read",
    "30_acquire_lock",
    "s.database_name = p_database_name and s.xmin = v_seen.xmin",
    "s.database_name = p_database_name",
    "trust/edges",
  ],
  [
    "a grant passes through an open guarded write",
    "30_acquire_lock",
    "elsif v_seen.unlocked then",
    "else",
    "trust/bounded",
  ],
  [
    "a lease begins when the caller began to wait",
    "30_acquire_lock",
    "if clock_timestamp() - v_now > interval '5 milliseconds' then",
    "if false then",
    "trust/edges",
  ],
  [
    "tokens stand still",
    "30_acquire_lock",
    "v_token := greatest(v_seen.fencing_token + 1, (date_part('epoch', v_now) * 1000000)::bigint);",
    "v_token := v_seen.fencing_token;",
    "contract/lock_acquire",
  ],
  [
    "an ended lock_id is granted anew",
    "30_acquire_lock",
    "and v_seen.end_reason is null and",
    "and",
    "contract/lock_acquire",
  ],
  [
    "somebody else's membership is not asked for",
    "30_acquire_lock",
    "    perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;",
    "    perform true;",
    "contract/errors",
  ],
  [
    "a row that was just made is taken for one's own",
    "31_acquire_in_turn",
    "      v_locked := 'nothing'; -- the row may be somebody else's\n",
    "",
    "trust/tokens",
  ],
  [
    "who waits for a set may be overtaken",
    "31_acquire_in_turn",
    "when not f.live and coalesce(l.ahead, 0) > 0 then 'queued'",
    "when false then 'queued'",
    "contract/line",
  ],
  [
    "take_over takes anybody's lease",
    "31_acquire_in_turn",
    "when f.live and not (p_take_over and f.mine) then 'held'",
    "when f.live and not p_take_over then 'held'",
    "contract/take_over",
  ],
  [
    "a place is made at the wrong end of the line",
    "24_line",
    "row_number() over (order by p.queued_at, p.lock_id)",
    "row_number() over (order by p.queued_at desc, p.lock_id)",
    "contract/line",
  ],
  [
    "a lapsed place holds the line up",
    "24_line",
    "and p.database_name = p_database_name and p.kept_until > clock_timestamp()\n    and (p.lock_type",
    "and p.database_name = p_database_name\n    and (p.lock_type",
    "contract/line",
  ],
  [
    "a cancellation does not write the row",
    "42_end_and_cancel",
    "  set has_line = true\n",
    "  set has_line = s.has_line\n",
    "trust/tokens",
  ],
  [
    "a lease that history has already cannot end",
    "42_end_and_cancel",
    "      case when v_reason = 'force_released' then p_by end\n    )\n    on conflict do nothing;",
    "      case when v_reason = 'force_released' then p_by end\n    );",
    "trust/tokens",
  ],
  [
    "a release ends anybody's lease",
    "40_release_lock",
    "and (v_server or v_old.lock_holder_user_id = v_user::text)",
    "",
    "contract/lock_release",
  ],
  [
    "a release need not say what",
    "41_release_in_turn",
    "case when p_lock_id is null and p_lock_holder_user_id is null and not p_force",
    "case when false",
    "contract/both_doors",
  ],
  [
    "a renewal moves the expiry backwards",
    "50_renew_lock",
    "v_expires := greatest(v_seen.lock_expires_at, v_now + make_interval(secs => v_ttl));",
    "v_expires := v_now + make_interval(secs => v_ttl);",
    "contract/lock_renew",
  ],
  [
    "a renewal by nobody counts as activity",
    "50_renew_lock",
    "case when p_active is not false then v_now else s.last_activity_at end",
    "v_now",
    "contract/lock_renew",
  ],
  [
    "a take-over lets an assert of the old token begin",
    "25_lock_rows",
    "s.xmax <> '0' or coalesce(s.lock_expires_at > clock_timestamp(), false) into v_shared",
    "s.xmax <> '0' into v_shared",
    "trust/tokens",
  ],
  [
    "the guard does not share the row",
    "60_assert_lock_held",
    "      for key share skip locked;\n    end if;",
    "      ;\n    end if;",
    "contract/fencing",
  ],
  [
    "the guard forgets that leases end",
    "60_assert_lock_held",
    "if v_seen.fencing_token = p_token and v_seen.lock_expires_at > clock_timestamp()",
    "if v_seen.fencing_token = p_token and v_seen.lock_id is not null",
    "contract/fencing",
  ],
  [
    "the guard takes another's token",
    "60_assert_lock_held",
    "if v_seen.lock_type = 'client' and v_seen.lock_holder_user_id = v_user::text then",
    "if true then",
    "contract/fencing",
  ],
  [
    "the guard takes a token of another grant's lock_id",
    "60_assert_lock_held",
    "    and (p_lock_id is null or v_seen.lock_id = p_lock_id)\n",
    "",
    "contract/fencing",
  ],
  [
    "a moved row keeps its lease",
    "23_state_triggers",
    "when (old.video_id <> new.video_id or old.database_name <> new.database_name)",
    "when (false)",
    "trust/tokens",
  ],
  [
    "a new row forgets the history's tokens",
    "23_state_triggers",
    "if v_token >= new.fencing_token or v_has_line then",
    "if v_has_line then",
    "trust/tokens",
  ],
  [
    "half a lock can be stored",
    "20_video_database_state",
    "% 7 = 0",
    "% 7 >= 0",
    "contract/lock_acquire",
  ],
  [
    "the clean-up takes the living too",
    "80_release_expired_locks",
    "where s.lock_expires_at <= v_now",
    "where s.lock_id is not null",
    "contract/release_expired_locks",
  ],
];

let survived = 0;
const wanted = Deno.args.join(" ");
const chosen = MUTATIONS.filter(([what]) => what.includes(wanted));
for (const [what, schema, from, to, test] of chosen) {
  const project = await Deno.makeTempDir({ prefix: "holdfast-mutation-" });
  try {
    await cp(join(import.meta.dirname!, "../supabase"), join(project, "supabase"), {
      recursive: true,
    });
    const file = join(project, "supabase", "schemas", `${schema}.sql`);
    const sql = await Deno.readTextFile(file);
    if (sql.split(from).length !== 2) {
      throw new Error(`${schema} does not have exactly one ${JSON.stringify(from)}`);
    }
    await Deno.writeTextFile(file, sql.replace(from, () => to));
    for (const [name, text] of await generatedMigrations(join(project, "supabase"))) {
      await Deno.writeTextFile(join(project, "supabase", "migrations", name), text);
    }
    const stack = await startStack({ project });
    try {
      const { success } = await new Deno.Command(Deno.execPath(), {
        args: [
          "test",
          "-A",
          "--no-check",
          "--quiet",
          "--unstable-no-legacy-abort",
          join(TESTS, `${test}_test.ts`),
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
console.log(`\n${chosen.length - survived} of ${chosen.length} mutations were noticed`);
Deno.exit(survived === 0 ? 0 : 1);
