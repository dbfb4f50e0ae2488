import { normalize } from "node:path";

/** One way to break Holdfast. */
export interface Mutation {
  /** What is then wrong. */
  what: string;
  /** The file, below the project's folder. */
  file: string;
  /** What is there, once. */
  from: string;
  /** What comes in its place. */
  to: string;
  /** The file of tests that has to notice: below the project's folder, without _test.ts. */
  test: string;
  /** Part of the names of those tests in it that have to; default: any. */
  only?: string;
}

/** What is broken, from what, to what, and who has to notice: a file of tests, and part of their names. */
type Row = [what: string, from: string, to: string, test: string, only?: string];

/** By the file that is broken, below supabase/schemas. */
const OF_THE_SCHEMA: Record<string, Row[]> = {
  "01_videos_and_members": [
    [
      "a membership is found among all that its user has",
      "on public.tenant_members (user_id, tenant_id)",
      "on public.tenant_members (user_id)",
      "trust/other_tenants",
    ],
    [
      "statistics tell of members",
      "alter table public.tenant_members\n  alter column tenant_id set statistics 0,\n",
      "alter table public.tenant_members\n",
      "trust/catalog",
    ],
    [
      "a policy tries the videos of all tenants",
      "using (tenant_id = any (array(\n    select m.tenant_id from public.tenant_members m where m.user_id = (select auth.uid())\n  )))",
      "using (tenant_id in (\n    select m.tenant_id from public.tenant_members m where m.user_id = (select auth.uid())\n  ))",
      "trust/other_tenants",
    ],
  ],
  "11_membership": [
    [
      "everybody belongs to every tenant, for reads",
      "from holdfast.membership m where m.user_id = auth.uid()",
      "from holdfast.membership m",
      "trust/other_tenants",
    ],
  ],
  "13_errors": [
    [
      "a name may come twice in a set",
      "count(distinct n) = count(*) and ",
      "",
      "contract/sets",
    ],
    [
      "a set may be of any size",
      "cardinality(p_database_names) between 1 and 16",
      "cardinality(p_database_names) >= 1",
      "contract/sets",
    ],
  ],
  "14_caller": [
    [
      "every user may lock every video",
      "and (p_user is null or (",
      "and (true or (",
      "contract/errors",
    ],
  ],
  "20_video_database_state": [
    ["half a lock can be stored", "% 7 = 0", "% 7 >= 0", "contract/lock_acquire"],
    [
      "a server may write a lock's columns",
      "update (server_version, wasabi_version, wasabi_synced_at), delete",
      "update, delete",
      "trust/tokens",
    ],
    [
      "statistics tell of holders",
      "  alter column lock_holder_user_id set statistics 0,\n",
      "",
      "trust/other_tenants",
    ],
    [
      "everybody reads every lock",
      "using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]))",
      "using (true)",
      "trust/other_tenants",
    ],
  ],
  "21_video_database_lock_history": [
    [
      "two locks cannot have a lock_id in common",
      "primary key (video_id, database_name, lock_id)",
      "primary key (lock_id)",
      "contract/lock_acquire",
    ],
    [
      "a server may write the history",
      "grant select on table public.video_database_lock_history",
      "grant select, insert on table public.video_database_lock_history",
      "trust/catalog",
    ],
    [
      "statistics tell whose lock it was",
      "  alter column tenant_id set statistics 0,\n",
      "",
      "trust/other_tenants",
    ],
  ],
  "23_state_triggers": [
    [
      "a video has as many databases as somebody invents names",
      "having count(*) >= v_most and not",
      "having false and not",
      "contract/growth",
    ],
    ["a video has one database too many", ">= v_most", "> v_most", "contract/growth"],
    [
      "a database that is there already counts as one more",
      "having count(*) >= v_most and not bool_or(s.database_name = new.database_name)",
      "having count(*) >= v_most",
      "contract/growth",
    ],
    [
      "two creations at once count the same rows",
      "  perform pg_advisory_xact_lock(hashtext('holdfast.limit_databases'), hashtext(new.video_id::text));\n",
      "",
      "contract/growth",
    ],
    [
      "the list of names is not looked at",
      "having count(*) > 0 and not bool_or(database_name = new.database_name)",
      "having false",
      "contract/growth",
    ],
    [
      "a new row forgets the history's tokens",
      "if v_token >= new.fencing_token or v_has_line then",
      "if v_has_line then",
      "trust/tokens",
    ],
    [
      "a new row forgets the cancellations that its predecessor left",
      "v_has_line := holdfast.has_line(new.video_id, new.database_name);",
      "v_has_line := false;",
      "trust/tokens",
    ],
    [
      "a deleted row's lease leaves no history",
      "if old.lock_id is not null then",
      "if false then",
      "trust/tokens",
    ],
    [
      "a deleted row's lease that history has already cannot end",
      "    on conflict do nothing;\n",
      "    ;\n",
      "trust/tokens",
    ],
    [
      "a deleted row's lease was live, whatever the clock says",
      "case when old.lock_expires_at <= v_now then 'expired' else 'force_released' end",
      "'force_released'",
      "trust/tokens",
    ],
    [
      "a moved row keeps its lease",
      "when (old.video_id <> new.video_id or old.database_name <> new.database_name)",
      "when (false)",
      "trust/tokens",
    ],
    [
      "a moved row keeps its token",
      "greatest(old.fencing_token + 1, holdfast.clock_token(), (",
      "least(old.fencing_token, holdfast.clock_token(), (",
      "trust/tokens",
    ],
    [
      "the locks can be truncated",
      "create trigger video_database_state_refuse_truncate\n  before truncate on public.video_database_state\n  for each statement execute function holdfast.refuse_truncate();",
      "",
      "contract/growth",
    ],
    [
      "the history can be truncated",
      "create trigger video_database_lock_history_refuse_truncate\n  before truncate on public.video_database_lock_history\n  for each statement execute function holdfast.refuse_truncate();",
      "",
      "contract/growth",
    ],
  ],
  "24_line": [
    [
      "a place is made at the wrong end of the line",
      "row_number() over (order by p.queued_at, p.lock_id)",
      "row_number() over (order by p.queued_at desc, p.lock_id)",
      "contract/line",
    ],
    [
      "a lapsed place holds the line up",
      "and p.database_name = p_database_name and p.kept_until > clock_timestamp()\n    and (p.lock_type",
      "and p.database_name = p_database_name\n    and (p.lock_type",
      "contract/line",
    ],
    [
      "who lost the right to the video still stands in its line",
      "and (p.lock_type = 'server' or (",
      "and (true or (",
      "contract/line",
    ],
    [
      "the next grant forgets who waits",
      "and p.database_name = p_database_name and p.kept_until > clock_timestamp()\n  ) or",
      "and p.database_name = p_database_name and false\n  ) or",
      "contract/line",
    ],
    [
      "the next grant forgets what was cancelled",
      " or exists (\n    select from holdfast.cancellation c where c.video_id = p_video_id and c.database_name = p_database_name\n  )",
      "",
      "trust/tokens",
    ],
  ],
  "25_lock_rows": [
    [
      "all wait for a busy row",
      "when pg_try_advisory_xact_lock(hashtext('holdfast.lock_rows'), hashtext(p_video_id::text || p_names[1])) then p_until",
      "when true then p_until",
      "trust/bounded",
    ],
    [
      "nobody waits for a busy row",
      "when pg_try_advisory_xact_lock(hashtext('holdfast.lock_rows'), hashtext(p_video_id::text || p_names[1])) then p_until",
      "when false then p_until",
      "trust/bounded",
    ],
    [
      "a wait for a row has no bound",
      "greatest(1, extract(epoch from p_until - clock_timestamp()) * 1000)::integer::text, true\n    );\n    v_shared",
      "'5s', true\n    );\n    v_shared",
      "trust/bounded",
    ],
    [
      "a wait for a row that is being made has no bound",
      "greatest(1, extract(epoch from p_until - clock_timestamp()) * 1000)::integer::text, true\n    );\n    insert",
      "'5s', true\n    );\n    insert",
      "trust/bounded",
    ],
    [
      "rows are locked in the order in which they are named",
      '  v_shared boolean;\nbegin\n  for v_name in select n from unnest(p_names) n order by n collate "C" loop',
      "  v_shared boolean;\nbegin\n  for v_name in select n from unnest(p_names) n loop",
      "contract/sets",
    ],
    [
      "a take-over lets an assert of the old token begin",
      "s.xmax <> '0' or coalesce(s.lock_expires_at > clock_timestamp(), false) into v_shared",
      "s.xmax <> '0' into v_shared",
      "trust/tokens",
    ],
    [
      "a row is locked and not written, and the next acquire takes that for a guarded write",
      "      update public.video_database_state s\n      set has_line = s.has_line\n      where s.video_id = p_video_id and s.database_name = v_name\n      returning s.xmax <> '0' into v_shared;",
      "      select s.xmax <> '0' into v_shared from public.video_database_state s\n      where s.video_id = p_video_id and s.database_name = v_name for no key update;",
      "trust/usual_case",
    ],
    [
      "a grant in turn passes through an open guarded write",
      "if v_shared and p_for_grant then",
      "if false then",
      "trust/bounded",
    ],
    [
      "the state row is made before the video is had",
      "    for key share\n    on conflict",
      "    on conflict",
      "trust/edges",
    ],
    [
      "a row that another makes at the same time is an error",
      "    on conflict on constraint video_database_state_pkey do nothing;",
      "    ;",
      "trust/edges",
    ],
  ],
  "30_acquire_lock": [
    [
      "a grant does not look whether the row is still as it was read",
      "s.database_name = p_database_name and s.xmin = v_seen.xmin",
      "s.database_name = p_database_name",
      "trust/edges",
    ],
    [
      "a grant passes through an open guarded write",
      "elsif v_seen.unlocked then",
      "else",
      "trust/bounded",
    ],
    [
      "the lease's end is judged by a later clock than that before the row was read",
      "if v_seen.lock_expires_at > v_before then",
      "if v_seen.lock_expires_at > clock_timestamp() then",
      "trust/bounded",
    ],
    [
      "a lease begins when the caller began to wait",
      "if clock_timestamp() - v_now > interval '5 milliseconds' then",
      "if false then",
      "trust/edges",
    ],
    [
      "who waited is not asked for their right again",
      "          if not holdfast.may_see(p_video_id, v_user) then",
      "          if false then",
      "trust/bounded",
    ],
    [
      "tokens stand still",
      "v_token := greatest(v_seen.fencing_token + 1, (date_part('epoch', v_now) * 1000000)::bigint);",
      "v_token := v_seen.fencing_token;",
      "contract/lock_acquire",
    ],
    [
      "tokens are counted",
      "v_token := greatest(v_seen.fencing_token + 1, (date_part('epoch', v_now) * 1000000)::bigint);",
      "v_token := v_seen.fencing_token + 1;",
      "trust/tokens",
    ],
    [
      "tokens are the clock alone, which may be set back",
      "v_token := greatest(v_seen.fencing_token + 1, (date_part('epoch', v_now) * 1000000)::bigint);",
      "v_token := (date_part('epoch', v_now) * 1000000)::bigint;",
      "trust/tokens",
    ],
    [
      "a grant after a wait has a token of before it",
      "          v_token := greatest(v_token, (date_part('epoch', v_now) * 1000000)::bigint);\n",
      "",
      "trust/edges",
    ],
    [
      "an ended lock_id is granted anew",
      "and v_seen.end_reason is null and",
      "and",
      "contract/lock_acquire",
    ],
    [
      "the lock_id of the lease that ran out is granted anew",
      "and v_seen.end_reason is null and (p_lock_id is null or v_seen.lock_id is distinct from p_lock_id)",
      "and v_seen.end_reason is null",
      "contract/lock_acquire",
    ],
    [
      "somebody else's membership is not asked for",
      "    perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;",
      "    perform true;",
      "trust/other_tenants",
    ],
    [
      "a user acquires in another's name",
      "    and (p_lock_holder_user_id is null or v_server or lower(p_lock_holder_user_id) = v_holder)\n",
      "",
      "contract/errors",
    ],
    [
      "who has no place passes the line",
      "found and not v_seen.has_line and",
      "found and",
      "contract/line",
    ],
    [
      "who asks for a place is refused without one",
      "if p_take_over is not true and coalesce(p_queue_seconds, 0) = 0 then",
      "if p_take_over is not true then",
      "contract/line",
    ],
    [
      "a take-over is refused",
      "if p_take_over is not true and coalesce(p_queue_seconds, 0) = 0 then",
      "if coalesce(p_queue_seconds, 0) = 0 then",
      "contract/take_over",
    ],
    [
      "a refusal locks the row",
      "    if v_seen.lock_expires_at > v_before then\n",
      "    perform from public.video_database_state s where s.video_id = p_video_id and s.database_name = p_database_name for key share;\n    if v_seen.lock_expires_at > v_before then\n",
      "contract/lock_acquire",
    ],
    [
      "an expired lease that is taken leaves no history",
      "if v_seen.lock_id is not null then",
      "if false then",
      "trust/edges",
    ],
    [
      "an expired lease that history has already cannot be taken",
      "          on conflict do nothing;\n",
      "          ;\n",
      "trust/tokens",
    ],
    [
      "an acquire waits as long as it has to",
      "set plan_cache_mode = force_generic_plan set lock_timeout = '450ms'",
      "set plan_cache_mode = force_generic_plan",
      "trust/catalog",
    ],
  ],
  "31_acquire_in_turn": [
    [
      "a row that was just made is taken for one's own",
      "      v_locked := 'nothing'; -- the row may be somebody else's\n",
      "",
      "trust/tokens",
    ],
    [
      "the right to the video is asked for once, before the wait",
      "if not holdfast.may_see(p_video_id, p_user) then",
      "if v_all is null and not holdfast.may_see(p_video_id, p_user) then",
      "trust/bounded",
    ],
    [
      "somebody else's lock_id is as good as one's own",
      "when s.lock_id = p_lock_id and f.live and f.mine then 'same'",
      "when s.lock_id = p_lock_id and f.live then 'same'",
      "contract/lock_acquire",
    ],
    [
      "a lock_id that ran out is granted anew, in turn",
      "when s.lock_id = p_lock_id or h.lock_id is not null or c.lock_id is not null then 'ended'",
      "when h.lock_id is not null or c.lock_id is not null then 'ended'",
      "contract/lock_acquire",
    ],
    [
      "a lock_id that ended with its row is granted anew",
      "when s.lock_id = p_lock_id or h.lock_id is not null or c.lock_id is not null then 'ended'",
      "when s.lock_id = p_lock_id or c.lock_id is not null then 'ended'",
      "trust/tokens",
    ],
    [
      "a cancelled lock_id is granted",
      "when s.lock_id = p_lock_id or h.lock_id is not null or c.lock_id is not null then 'ended'",
      "when s.lock_id = p_lock_id or h.lock_id is not null then 'ended'",
      "trust/tokens",
    ],
    [
      "anybody's cancellation counts",
      "      and c.lock_type = p_type and c.lock_holder_user_id in (p_holder, '')\n",
      "",
      "trust/tokens",
    ],
    [
      "take_over takes anybody's lease",
      "when f.live and not (p_take_over and f.mine) then 'held'",
      "when f.live and not p_take_over then 'held'",
      "contract/take_over",
    ],
    [
      "a take-over stands in the line",
      "when not f.live and coalesce(l.ahead, 0) > 0 then 'queued'",
      "when coalesce(l.ahead, 0) > 0 then 'queued'",
      "contract/line",
    ],
    [
      "who waits may be overtaken",
      "when not f.live and coalesce(l.ahead, 0) > 0 then 'queued'",
      "when false then 'queued'",
      "contract/line",
    ],
    [
      "who waits may be overtaken by one without a place",
      "- 1, count(*))::integer as ahead",
      "- 1, 0)::integer as ahead",
      "contract/line",
    ],
    [
      "the head of the line waits for itself",
      `coalesce(min(q."position") filter (where q.own) - 1, count(*))::integer as ahead`,
      "count(*)::integer as ahead",
      "contract/line",
    ],
    [
      "another's lock_id gives their turn",
      "i.lock_id = p_lock_id and i.lock_holder_user_id = p_holder and i.lock_type = p_type as own",
      "i.lock_id = p_lock_id as own",
      "contract/line",
    ],
    [
      "one lock_id may come with other names",
      "where m.other_names;",
      "where false;",
      "contract/sets",
    ],
    [
      "a set is granted if its first lock is free",
      "order by m.reason is null, m.reason <> 'ended', m.ord limit 1",
      "order by m.ord limit 1",
      "contract/sets",
    ],
    [
      "a place cannot be had beside a guarded write",
      "p_video_id, v_names, false, greatest(v_until",
      "p_video_id, v_names, true, greatest(v_until",
      "trust/bounded",
    ],
    [
      "the head of the line is told to come back late",
      "greatest(10, least(150, p_met.lease_left_ms, p_met.place_left_ms / 2))",
      "5000",
      "contract/line",
    ],
    [
      "who waits is told to come back when the place is gone",
      `least(150 + 250 * (p_met."position" - 1), p_met.place_left_ms / 2)`,
      `150 + 250 * (p_met."position" - 1)`,
      "contract/line",
    ],
    [
      "a place needs no lock_id",
      "case when p_queue_seconds > 0 and p_lock_id is null then",
      "case when false then",
      "contract/line",
    ],
    [
      "a user's own id in capitals is another's",
      "lower(p_lock_holder_user_id) <> p_holder",
      "p_lock_holder_user_id <> p_holder",
      "contract/errors",
    ],
  ],
  "32_grant_and_queue": [
    [
      "the token of a set is higher than one of its locks' only",
      "select max(t.fencing_token) + 1",
      "select min(t.fencing_token) + 1",
      "contract/sets",
    ],
    [
      "each lock of a set has a token of its own",
      "where t.video_id = p_video_id and t.database_name = any (p_names)\n    ))",
      "where t.video_id = p_video_id and t.database_name = s.database_name\n    ))",
      "contract/sets",
    ],
    [
      "tokens of grants in turn are counted",
      "fencing_token = greatest((date_part('epoch', p_now) * 1000000)::bigint, (",
      "fencing_token = greatest(0, (",
      "contract/sets",
    ],
    [
      "a lease in turn begins when the caller began to wait",
      "if clock_timestamp() - p_now > interval '5 milliseconds' then",
      "if false then",
      "trust/edges",
    ],
    [
      "a lease that ran out was taken over",
      "case when s.lock_expires_at <= p_now then 'expired' else 'taken_over' end",
      "'taken_over'",
      "contract/take_over",
    ],
    [
      "a lease that history has already cannot be taken over",
      "and s.lock_id is not null\n  on conflict do nothing;",
      "and s.lock_id is not null;",
      "trust/tokens",
    ],
    [
      "who has the lock keeps the place",
      "p.lock_id = p_lock_id and p.lock_holder_user_id = p_holder and p.lock_type = p_type or p.kept_until <= p_now",
      "p.kept_until <= p_now",
      "contract/line",
    ],
    [
      "lapsed places are never cleared by a grant",
      " or p.kept_until <= p_now)",
      ")",
      "contract/line",
    ],
    [
      "a lock that had a line never has the usual case again",
      "    has_line = s.has_line and holdfast.has_line(s.video_id, s.database_name),\n",
      "",
      "trust/usual_case",
    ],
    [
      "locks of a set come in the order of their names, not of the request's",
      "::holdfast.lock_of_set order by n.ord)",
      '::holdfast.lock_of_set order by n.name collate "C")',
      "contract/sets",
    ],
    ["a line has no end", ">= 1000\n", ">= 1000000\n", "contract/line"],
    ["a holder may fill the line", ">= 10;", ">= 1000;", "contract/line"],
    [
      "a place is not told to the lock's row",
      "  set has_line = true\n",
      "  set has_line = s.has_line\n",
      "contract/line",
    ],
    [
      "asking again does not keep the place",
      "set kept_until = greatest(p.kept_until, clock_timestamp() + make_interval(secs => p_queue_seconds))",
      "set kept_until = p.kept_until",
      "contract/line",
    ],
    [
      "asking again may shorten the place",
      "set kept_until = greatest(p.kept_until, clock_timestamp() + make_interval(secs => p_queue_seconds))",
      "set kept_until = clock_timestamp() + make_interval(secs => p_queue_seconds)",
      "contract/line",
    ],
  ],
  "40_release_lock": [
    [
      "a release ends anybody's lease",
      "and (v_server or v_old.lock_holder_user_id = v_user::text)",
      "",
      "contract/lock_release",
    ],
    [
      "a server releases a user's lease",
      "and v_old.lock_type = v_type and v_old.unlocked",
      "and v_old.unlocked",
      "contract/lock_release",
    ],
    [
      "a release does not look whether the row is still as it was read",
      " and s.xmin = v_old.xmin;",
      ";",
      "trust/edges",
    ],
    [
      "a lease that ran out counts as released",
      "      if v_old.lock_expires_at <= v_now then\n        return",
      "      if false then\n        return",
      "contract/lock_release",
    ],
    [
      "a release waits for whoever changes the row, and errs",
      "and v_old.lock_type = v_type and v_old.unlocked",
      "and v_old.lock_type = v_type",
      "trust/bounded",
    ],
    [
      "one name releases one lock of a set",
      "and v_old.lock_database_names is null and p_database_names is null",
      "and p_database_names is null",
      "contract/sets",
    ],
    [
      "a lease that history has already cannot be released",
      "      on conflict do nothing;\n",
      "      ;\n",
      "trust/tokens",
    ],
  ],
  "41_release_in_turn": [
    [
      "a release need not say what",
      "case when p_lock_id is null and p_lock_holder_user_id is null and not p_force",
      "case when false",
      "contract/both_doors",
    ],
    [
      "a server releases a user's lease, in turn",
      "and (p_force or s.lock_type = p_type and s.lock_holder_user_id",
      "and (p_force or s.lock_holder_user_id",
      "contract/lock_release",
    ],
    [
      "force ends whatever lease there is, also where a lock_id is named",
      "s.lock_id is not null and (p_lock_id is null or s.lock_id = p_lock_id)",
      "s.lock_id is not null",
      "contract/lock_release",
    ],
    [
      "a release that overtakes its acquire cancels nothing",
      "p_lock_id is not null and not p_force and s.lock_id is distinct",
      "false and s.lock_id is distinct",
      "trust/tokens",
    ],
    [
      "force cancels what never was",
      "p_lock_id is not null and not p_force and s.lock_id is distinct",
      "p_lock_id is not null and s.lock_id is distinct",
      "contract/lock_release",
    ],
    [
      "a stranger learns whether there is a lock",
      "if not found and not v_may_see\n",
      "if not found and false\n",
      "trust/other_tenants",
    ],
    [
      "who lost the right to the video cannot give the place up",
      "\n      and not holdfast.has_place(p_video_id, v_names, p_lock_id, coalesce(p_user::text, ''), p_type)\n",
      "\n",
      "contract/line",
    ],
    [
      "a release of a lock that cannot be made is an error",
      "exception when sqlstate 'PT400' then",
      "exception when sqlstate 'PT499' then",
      "contract/growth",
    ],
    [
      "a repeated release is told that there is nothing",
      "(h.end_reason = 'released' or p_force and",
      "(p_force and",
      "contract/lock_release",
    ],
    [
      "any member may release by force",
      "elsif v_role <> 'admin' then",
      "elsif false then",
      "contract/lock_release",
    ],
    [
      "a user's own id in capitals is another's, for a release",
      "lower(p_lock_holder_user_id) <> p_user::text",
      "p_lock_holder_user_id <> p_user::text",
      "contract/errors",
    ],
    [
      "one lock_id may come with other names, for a release",
      "where m.other_names;",
      "where false;",
      "contract/sets",
    ],
  ],
  "42_end_and_cancel": [
    [
      "a cancellation does not write the row",
      "  set has_line = true\n",
      "  set has_line = s.has_line\n",
      "trust/tokens",
    ],
    [
      "a lease that history has already cannot end",
      "      case when v_reason = 'force_released' then p_by end\n    )\n    on conflict do nothing;",
      "      case when v_reason = 'force_released' then p_by end\n    );",
      "trust/tokens",
    ],
    [
      "a lease that ran out counts as released, in turn",
      "case when v_old.lock_expires_at <= p_now then 'expired' when p_force",
      "case when p_force",
      "contract/lock_release",
    ],
    [
      "who gives up a place keeps it",
      "    and (p_holder = '' or p.lock_holder_user_id = p_holder);\n",
      "    and false;\n",
      "contract/line",
    ],
    [
      "who lost the right to the video learns who holds the lock",
      "case when p_may_see then v_first.holder end",
      "v_first.holder",
      "contract/lock_release",
    ],
  ],
  "50_renew_lock": [
    [
      "a renewal moves the expiry backwards",
      "v_expires := greatest(v_seen.lock_expires_at, v_now + make_interval(secs => v_ttl));",
      "v_expires := v_now + make_interval(secs => v_ttl);",
      "contract/lock_renew",
    ],
    [
      "a renewal by nobody counts as activity",
      "case when p_active is not false then v_now else s.last_activity_at end",
      "v_now",
      "contract/lock_renew",
    ],
    [
      "a renewal revives what ran out",
      "    and v_seen.lock_expires_at > v_now and v_seen",
      "    and v_seen",
      "contract/lock_renew",
    ],
    [
      "a renewal is anybody's",
      "    and (v_server or v_seen.lock_holder_user_id = v_user::text)\n",
      "",
      "contract/lock_renew",
    ],
    [
      "a renewal that waited is judged by what it read before",
      "if found and clock_timestamp() - v_now > interval '5 milliseconds' then",
      "if false then",
      "trust/edges",
    ],
    [
      "a renewal does not look whether the row is still as it was read",
      " and s.xmin = v_seen.xmin;",
      ";",
      "trust/edges",
    ],
    [
      "a renewal waits for whoever changes the row, and errs",
      "found and v_seen.unlocked and",
      "found and",
      "trust/bounded",
    ],
    [
      "the length that was last asked for is forgotten",
      "      lock_ttl_seconds = v_ttl,\n",
      "",
      "trust/tokens",
    ],
    [
      "who lost the right to the video renews",
      "    perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;",
      "    perform true;",
      "contract/lock_release",
    ],
    [
      "the holder does not learn that somebody waits",
      "case when v_seen.has_line then holdfast.line_length(p_video_id, p_database_name) else 0 end",
      "0",
      "contract/line",
    ],
  ],
  "51_renew_in_turn": [
    [
      "what is left of a set is renewed",
      "exit when found;",
      "exit when found and cardinality(v_names) = 1;",
      "contract/sets",
    ],
    [
      "a renewal of a set moves the expiry backwards",
      "greatest(s.lock_expires_at, p_now + make_interval(secs => p_ttl))",
      "p_now + make_interval(secs => p_ttl)",
      "contract/sets",
    ],
    [
      "one lock_id may come with other names, for a renewal",
      "where m.other_names;",
      "where false;",
      "contract/sets",
    ],
  ],
  "60_assert_lock_held": [
    [
      "the guard does not share the row",
      "      for key share skip locked;\n    end if;",
      "      ;\n    end if;",
      "contract/fencing",
    ],
    [
      "the guard waits for the row",
      "      for key share skip locked;\n    end if;",
      "      for key share;\n    end if;",
      "trust/tokens",
    ],
    [
      "the guard waits for the video",
      "where v.id = p_video_id for key share skip locked;",
      "where v.id = p_video_id for key share;",
      "contract/fencing",
    ],
    [
      "the guard takes the state row before the video",
      "where v.id = p_video_id for key share skip locked;",
      "where v.id = p_video_id;",
      "contract/fencing",
    ],
    [
      "the guard forgets that leases end",
      "if v_seen.fencing_token = p_token and v_seen.lock_expires_at > clock_timestamp()",
      "if v_seen.fencing_token = p_token and v_seen.lock_id is not null",
      "contract/fencing",
    ],
    [
      "the guard judges by the transaction's start",
      "and v_seen.lock_expires_at > clock_timestamp()\n",
      "and v_seen.lock_expires_at > now()\n",
      "contract/fencing",
    ],
    [
      "the guard takes an older token",
      "if v_seen.fencing_token = p_token and",
      "if v_seen.fencing_token >= p_token and",
      "contract/fencing",
    ],
    [
      "the guard takes another's token",
      "if v_seen.lock_type = 'client' and v_seen.lock_holder_user_id = v_user::text then",
      "if true then",
      "contract/fencing",
    ],
    [
      "the guard takes a token of another grant's lock_id",
      "    and (p_lock_id is null or v_seen.lock_id = p_lock_id)\n",
      "",
      "contract/fencing",
    ],
    [
      "a stranger's assert shares another tenant's rows",
      "if not v_server and not holdfast.may_see(p_video_id, v_user) then",
      "if false then",
      "trust/other_tenants",
    ],
  ],
  "61_advance_server_version": [
    [
      "a version is counted after the lease ended in a wait",
      "  -- the update may have waited for another of the holder's own, past the end of the lease\n  perform holdfast.check_token(p_video_id, p_database_name, p_fencing_token, null);\n",
      "",
      "trust/bounded",
    ],
    [
      "a count of versions waits as long as it has to",
      " set lock_timeout = '450ms'",
      "",
      "trust/bounded",
    ],
  ],
  "62_guard": [
    [
      "a video cannot be deleted with its guarded rows",
      "    if not found then\n      return;",
      "    if false then\n      return;",
      "contract/fencing",
    ],
    [
      "a delete is not guarded",
      "    if not found then\n      return;",
      "    if true then\n      return;",
      "contract/fencing",
    ],
    [
      "the header x-lock-id is not looked at",
      "v_token::bigint, v_lock_id::uuid)",
      "v_token::bigint, null)",
      "contract/fencing",
    ],
    [
      "a token that is no number is an error of another kind",
      "if v_token !~ '^[0-9]{1,18}$' or v_lock_id",
      "if v_lock_id",
      "contract/fencing",
    ],
    [
      "a lock_id that is none is an error of another kind",
      " or v_lock_id !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then",
      " then",
      "contract/fencing",
    ],
    ["a lock_id in capitals is none", "or v_lock_id !~* ", "or v_lock_id !~ ", "contract/fencing"],
    [
      "a row may be carried away from the lock",
      "select %2$s from new_rows r union select %2$s from old_rows r order by 1, 2",
      "select %2$s from new_rows r order by 1, 2",
      "contract/fencing",
    ],
    [
      "a row may be carried to another lock",
      "select %2$s from new_rows r union select %2$s from old_rows r order by 1, 2",
      "select %2$s from old_rows r order by 1, 2",
      "contract/fencing",
    ],
    [
      "a guarded table can be truncated",
      "'create trigger holdfast_guard_truncate before truncate on %s for each statement execute function holdfast.refuse_truncate()'",
      "'comment on table %s is null'",
      "contract/fencing",
    ],
    [
      "a partition is open",
      '    union\n    select p.relid from pg_catalog.pg_partition_tree("table") p\n  ) t;\nend;\n$$;\nrevoke all on function holdfast.guard(',
      "  ) t;\nend;\n$$;\nrevoke all on function holdfast.guard(",
      "contract/fencing",
    ],
  ],
  "70_views": [
    [
      "held_locks shows what ran out",
      "where s.lock_expires_at > clock_timestamp();",
      "where s.lock_id is not null;",
      "contract/line",
    ],
    [
      "held_locks shows the locks of all tenants",
      "create view public.held_locks with (security_invoker = true) as",
      "create view public.held_locks as",
      "trust/other_tenants",
    ],
    [
      "waiting_locks shows who waits, to all tenants",
      "create view public.waiting_locks with (security_invoker = true) as",
      "create view public.waiting_locks as",
      "trust/other_tenants",
    ],
  ],
  "80_release_expired_locks": [
    [
      "the clean-up takes the living too",
      "where s.lock_expires_at <= v_now",
      "where s.lock_id is not null",
      "contract/release_expired_locks",
    ],
    [
      "the clean-up waits",
      "for no key update skip locked",
      "for no key update",
      "contract/release_expired_locks",
    ],
    [
      "the clean-up takes the newest first",
      "order by s.lock_expires_at\n",
      "order by s.lock_expires_at desc\n",
      "contract/release_expired_locks",
    ],
    [
      "a lease ended when somebody cleaned up",
      "e.lock_expires_at, 'expired'",
      "v_now, 'expired'",
      "contract/release_expired_locks",
    ],
    [
      "a lease that history has already stands in the clean-up's way",
      "    from expired e\n    on conflict do nothing\n",
      "    from expired e\n",
      "trust/tokens",
    ],
    [
      "a cancellation is forgotten soon",
      "v_now - interval '1 hour'",
      "v_now - interval '1 minute'",
      "trust/tokens",
    ],
    [
      "cancellations are kept for ever",
      "v_now - interval '1 hour'",
      "v_now - interval '1 year'",
      "trust/tokens",
    ],
  ],
  "81_prune_lock_history": [
    [
      "all of the history is pruned",
      "where l.ended_at < clock_timestamp() - p_older_than",
      "where true",
      "contract/growth",
    ],
    ["history is pruned without end", "    limit p_batch_size\n", "", "contract/growth"],
    [
      "history may be pruned while it is needed",
      "case when (p_older_than >= interval '1 day') is not true then",
      "case when false then",
      "contract/growth",
    ],
    [
      "pruning waits",
      "    for update skip locked\n",
      "    for update\n",
      "contract/growth",
    ],
  ],
  "90_privileges": [
    [
      "a right that a server needs is repaired away",
      "  union all\n  select 'public.video_database_state', 'table', null, 'service_role', 'DELETE'\n",
      "",
      "trust/catalog",
    ],
    [
      "a repair of a table's rights takes its columns'",
      "for v_pass in 1..2 loop",
      "for v_pass in 1..1 loop",
      "trust/catalog",
    ],
    [
      "rights on columns are not looked at",
      "cross join lateral pg_catalog.aclexplode(t.attacl) a",
      "cross join lateral pg_catalog.aclexplode(t.attacl) a where false",
      "trust/catalog",
    ],
  ],
};

/** By the file that is broken, below supabase/functions/_shared. */
const OF_THE_FUNCTIONS: Record<string, Row[]> = {
  "data_api": [
    [
      "a redirect is followed, with the credentials",
      'redirect: "manual",',
      'redirect: "follow",',
      "contract/errors",
    ],
    [
      "the trace ends at the function",
      "        ...(call.traceparent === undefined ? {} : { traceparent: call.traceparent }),\n",
      "",
      "contract/errors",
    ],
    [
      "an API key is passed on as a user's token",
      "header && !/^bearer\\s+sb_/i.test(header) ? header : null",
      "header",
      "contract/errors",
    ],
  ],
  "lock_function": [
    [
      "a Data API that hangs hangs the function",
      "AbortSignal.any([request.signal, deadline])",
      "request.signal",
      "contract/errors",
    ],
    [
      "a caller who is gone keeps the database at work",
      "AbortSignal.any([request.signal, deadline])",
      "deadline",
      "contract/errors",
    ],
    [
      "a busy database is not asked again",
      "  if (isBusy(reply)) reply = await callDatabase(call); // it was busy for a moment, mostly\n",
      "",
      "contract/errors",
    ],
    ["a busy lock is an error", "if (busy) return", "if (false) return", "contract/errors"],
    [
      "a browser may not name a region",
      "x-retry-count, x-region,",
      "x-retry-count,",
      "contract/errors",
    ],
  ],
  "not_now": [
    ["transaction_timeout is for ever", "/^25P0[34]$/", "/^25P03$/", "contract/errors"],
    ["statement_timeout is for ever", "/^57/", "/^57P/", "contract/errors"],
    ["a standby is for ever", "/^25006$/", "/^25007$/", "contract/errors"],
    [
      "a redirect is for ever",
      "(status) => status < 400",
      "(status) => status < 300",
      "contract/errors",
    ],
    ["too many requests are for ever", "[408, 425, 429]", "[408, 425]", "contract/errors"],
  ],
  "read_json_object": [
    [
      "a body that trickles is waited for",
      '  deadline.addEventListener("abort", giveUp);\n',
      "",
      "contract/errors",
    ],
    [
      "a body that came too late is read",
      '    if (deadline.aborted) throw new RequestError("REQUEST_TIMEOUT");\n',
      "",
      "contract/errors",
    ],
    [
      "a body has no limit",
      "if (bytes > MAX_BODY_BYTES) throw",
      "if (false) throw",
      "contract/errors",
    ],
  ],
  "requests": [
    [
      "null is refused",
      "take_over: z.nullish(flag)",
      "take_over: z.optional(flag)",
      "contract/errors",
    ],
    [
      "a name may come twice in a set, over HTTP",
      ").check(z.refine((names) => new Set(names).size === names.length, MESSAGES.databaseNames));",
      ");",
      "contract/both_doors",
    ],
  ],
};

const rows = (
  folder: string,
  ending: string,
  tests: string,
  of: Record<string, Row[]>,
): Mutation[] =>
  Object.entries(of).flatMap(([name, rows]) =>
    rows.map(([what, from, to, test, only]) => ({
      what,
      file: `${folder}/${name}.${ending}`,
      from,
      to,
      test: normalize(`${tests}/${test}`),
      ...(only === undefined ? {} : { only }),
    }))
  );

/** Every way to break Holdfast that the tests have to notice. */
export const MUTATIONS: readonly Mutation[] = [
  ...rows("supabase/schemas", "sql", "supabase/tests", OF_THE_SCHEMA),
  ...rows("supabase/functions/_shared", "ts", "supabase/tests", OF_THE_FUNCTIONS),
];
