import type { Change } from "../support/changed_functions.ts";
import type { RecordOptions } from "./record.ts";

/** A lock that is wrong on purpose. */
export interface Broken {
  /** In what way. */
  what: string;
  /** Where callers have to press to feel it. */
  focus?: RecordOptions["focus"];
  /** Felt at once: for the gate. */
  isQuick?: boolean;
  changes: readonly Change[];
}

/** Locks that are wrong, each in a way that real ones were wrong: the checkers have to find every one. */
export const BROKEN: readonly Broken[] = [
  {
    what: "a grant reads, then updates",
    focus: "usual case",
    changes: [
      ["acquire_lock", " and s.xmin = v_seen.xmin", ""],
    ],
  },
  {
    what: "a grant begins when its transaction did",
    focus: "usual case",
    changes: [
      [
        "acquire_lock",
        "v_now := clock_timestamp();\n      v_lock_id",
        "v_now := now();\n      v_lock_id",
      ],
    ],
  },
  {
    what: "a renewal judges by its transaction's start",
    focus: "usual case",
    changes: [
      ["renew_lock", "v_now := clock_timestamp()", "v_now := now()"],
    ],
  },
  {
    what: "an assert judges by its transaction's start",
    focus: "usual case",
    changes: [
      [
        "check_token",
        "v_seen.lock_expires_at > clock_timestamp()",
        "v_seen.lock_expires_at > now()",
      ],
    ],
  },
  {
    what: "an assert takes no row lock",
    focus: "usual case",
    changes: [
      ["check_token", "    for key share of s skip locked;", "    ;"],
    ],
  },
  {
    what: "a renewal reads, then updates",
    focus: "usual case",
    changes: [
      ["renew_lock", " and s.xmin = v_seen.xmin", ""],
    ],
  },
  {
    what: "a write is not guarded",
    focus: "usual case",
    isQuick: true,
    changes: [
      [
        "check_token",
        "if v_user is null and not v_server then",
        "if true then return; end if;\n  if v_user is null and not v_server then",
      ],
    ],
  },
  {
    what: "a release ends anybody's lease",
    focus: "usual case",
    changes: [
      ["release_lock", " and v_old.lock_type = v_type and v_old.unlocked", " and v_old.unlocked"],
      ["release_lock", "and (v_server or v_old.lock_holder_user_id = v_user::text)", ""],
    ],
  },
  {
    what: "a grant does not look at the history",
    focus: "usual case",
    changes: [
      ["acquire_lock", "v_seen.end_reason is null and", ""],
      ["meet", "h.lock_id is not null or c.lock_id", "c.lock_id"],
    ],
  },
  {
    what: "a cancellation is not looked at",
    focus: "line",
    changes: [
      ["meet", "or c.lock_id is not null then 'ended'", "then 'ended'"],
    ],
  },
  {
    what: "a token stands still",
    focus: "usual case",
    isQuick: true,
    changes: [
      [
        "acquire_lock",
        "greatest(v_seen.fencing_token + 1, (date_part('epoch', v_now) * 1000000)::bigint)",
        "v_seen.fencing_token",
      ],
    ],
  },
  {
    what: "a token is a count of the row's grants",
    focus: "usual case",
    changes: [
      [
        "acquire_lock",
        "greatest(v_seen.fencing_token + 1, (date_part('epoch', v_now) * 1000000)::bigint)",
        "case when v_seen.fencing_token > 1000000 then 1 else v_seen.fencing_token + 1 end",
      ],
    ],
  },
  {
    what: "versions that were read before a wait are believed",
    focus: "usual case",
    changes: [
      [
        "acquire_lock",
        " and s.xmin = v_seen.xmin",
        " and s.fencing_token = v_seen.fencing_token and s.lock_id is not distinct from v_seen.lock_id",
      ],
    ],
  },
  {
    what: "a place lets others overtake",
    focus: "line",
    isQuick: true,
    changes: [
      ["meet", "coalesce(l.ahead, 0) > 0", "false"],
    ],
  },
  {
    what: "half a set is enough",
    focus: "line",
    changes: [
      [
        "grant_locks",
        "    ))\n  where s.video_id = p_video_id and s.database_name = any (p_names);",
        "    ))\n  where s.video_id = p_video_id and s.database_name = p_names[1];",
      ],
    ],
  },
];
