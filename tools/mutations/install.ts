import type { Row } from "./mutation.ts";

const FITS = "../../install/tests/fits";

/** What fits Holdfast into a database that exists, by the file that is broken, below supabase/schemas. */
export const OF_THE_FIT: Record<string, Row[]> = {
  "01_preflight": [
    [
      "what is in the way is not named before anything is changed",
      "if current_setting('holdfast.problems', true) <> '' then",
      "if false then",
      FITS,
      "in the way",
    ],
    [
      "a function that a call could mean as well is not seen",
      "        and ours.arguments[:ours.required] <@ theirs.names::text[]\n",
      "        and false\n",
      FITS,
      "in the way",
    ],
    [
      "a function of the same types is not seen",
      "k\n        where (string_to_array",
      "k\n        where false and (string_to_array",
      FITS,
      "in the way",
    ],
    [
      "others wait as long as the migration waits",
      "perform set_config('lock_timeout', '400ms', true);",
      "perform set_config('lock_timeout', '0', true);",
      FITS,
      "short tries",
    ],
    [
      "videos without a key are used",
      "not k.has_key, '- public.videos.id",
      "false, '- public.videos.id",
      FITS,
      "in the way",
    ],
  ],
  "11_membership": [
    [
      "the query for members is not used",
      "nullif(current_setting('holdfast.members', true), ''),",
      "null,",
      FITS,
      "members",
    ],
  ],
  "14_caller": [
    ["a video without a tenant can be locked", "and v.tenant_id is not null", "", FITS, "members"],
  ],
  "19_adopt_state": [
    [
      "policies of the project's own stay",
      "where p.schemaname = 'public' and p.tablename = 'video_database_state' and v_table is not null",
      "where false",
      FITS,
    ],
    [
      "rights of the project's own stay",
      "where a.grantee <> g.relowner",
      "where false",
      FITS,
    ],
    [
      "a lock of an unknown type is lost",
      "select coalesce(t.lock_holder_user_id <> '', false) as is_held",
      "select coalesce(t.lock_holder_user_id <> '' and t.locked_at is not null, false) as is_held",
      FITS,
      "taken over",
    ],
    [
      "a lock that was held is held for ever",
      "lock_expires_at = case when h.is_held then v_now + interval '1 hour' end",
      "lock_expires_at = case when h.is_held then v_now + interval '100 years' end",
      FITS,
      "taken over",
    ],
    [
      "versions are lost",
      "set server_version = coalesce(s.server_version, 0),",
      "set server_version = 0,",
      FITS,
      "taken over",
    ],
    [
      "a wrong tenant stays",
      "s.tenant_id is distinct from v.tenant_id and v.tenant_id is not null",
      "false",
      FITS,
    ],
    [
      "a foreign key that holds is not valid",
      "if v_stray = 0 then",
      "if false then",
      FITS,
      "shape",
    ],
  ],
  "90_privileges": [
    [
      "a namesake of the project's loses its rights",
      "'public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])'::regprocedure,",
      "'public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])'::regprocedure, to_regprocedure('public.acquire_lock(text)'),",
      FITS,
      "colliding",
    ],
  ],
  "91_realtime": [
    [
      "a publication that is not ours stops the migration",
      "exception when others then",
      "exception when undefined_table then",
      FITS,
      "publication",
    ],
  ],
};

/** `npx holdfast`, by the file that is broken, below install. */
export const OF_THE_INSTALLER: Record<string, Row[]> = {
  plan_install: [
    [
      "edited files are replaced",
      "sha256(before) === known[path]",
      "path in known",
      "install",
      "upgrade",
    ],
    [
      "functions of the user's own are replaced",
      "if (others.length > 0) {",
      "if (others.length > 100) {",
      "install",
      "same names",
    ],
    [
      "all migrations are added anew",
      "filter(([name]) => !(name in known))",
      "filter(() => true)",
      "install",
    ],
    [
      "the migration is parted in two",
      "/_holdfast\\.sql$/]",
      "/_nothing\\.sql$/]",
      "install",
      "second run",
    ],
  ],
  apply_changes: [
    [
      "a failure leaves half of the files",
      "if (before === null) await rm(join(folder, path), { force: true });",
      "if (before === null) continue;",
      "install",
      "cannot take its place",
    ],
  ],
  config_blocks: [
    [
      "lines that the user added to a block are left without it",
      "/^\\s*(\\[|#|$)/.test(after[0]!)",
      "true",
      "install",
      "blocks",
    ],
    [
      "a block that lets nobody in is left as it is",
      "verify_jwt: true };",
      "verify_jwt: false };",
      "install",
      "something else",
    ],
  ],
  next_version: [
    ["a migration comes before the project's last", "|| last < current", "|| true", "install"],
  ],
};
