// Projects that exist before Holdfast comes: what they have in their database, and beside it.

/** A project that takes Holdfast. */
export interface OwnProject {
  /** Its migrations, by the names of their files. */
  migrations: Record<string, string>;
  /** Other files below `supabase/`. */
  files?: Record<string, string>;
  /** What is said to `npx holdfast install`. */
  options?: string[];
  /** Lets the contract's tests write videos and members as they are used to. */
  forContract?: string;
  /** Takes that back. */
  afterContract?: string;
}

const A = "00000000-0000-4000-8000-00000000000a";
const B = "00000000-0000-4000-8000-00000000000b";

/** Ids of videos, by number. */
export const videoId = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;

/** The tables as the guidance has them that this project began with, and rows in them; older projects grant everything. */
const SEED = `
create table public.videos (
  id uuid primary key,
  tenant_id uuid not null,
  storage_key text not null,
  status text not null,
  created_at timestamptz default now()
);
create table public.video_database_state (
  video_id uuid not null,
  database_name text not null,
  tenant_id uuid not null,
  server_version integer default 0,
  wasabi_version integer default 0,
  wasabi_synced_at timestamptz,
  lock_holder_user_id text,
  lock_type text,
  locked_at timestamptz,
  last_activity_at timestamptz,
  primary key (video_id, database_name)
);
grant all on table public.videos, public.video_database_state to anon, authenticated, service_role;
insert into public.videos (id, tenant_id, storage_key, status)
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '${A}', n || '.mp4', 'ready'
from generate_series(1, 50) n;
insert into public.video_database_state (video_id, database_name, tenant_id, server_version, wasabi_version)
select v.id, d.name, v.tenant_id, length(v.storage_key), 3
from public.videos v
cross join unnest('{layout,captions,shots}'::text[]) d (name);
-- held right now, under several types
update public.video_database_state
set lock_holder_user_id = 'process-a', lock_type = 'server', locked_at = now() - interval '5 hours', last_activity_at = now()
where video_id = '${videoId(1)}' and database_name = 'layout';
update public.video_database_state
set lock_holder_user_id = '00000000-0000-4000-8000-0000000000CC', lock_type = 'client', locked_at = now()
where video_id = '${videoId(1)}' and database_name = 'captions';
update public.video_database_state
set lock_holder_user_id = 'process-b', lock_type = 'PROCESSING', server_version = null
where video_id = '${videoId(2)}' and database_name = 'layout';
update public.video_database_state
set lock_type = 'server', locked_at = now(), tenant_id = '${B}'
where video_id = '${videoId(2)}' and database_name = 'captions';
`;

const OWN_MEMBERS = `
create type public.team_role as enum ('viewer', 'member', 'admin');
create table public.teams (id uuid primary key default gen_random_uuid(), name text not null);
create table public.team_assignments (
  team_id uuid not null,
  person_id uuid not null references auth.users (id) on delete cascade,
  role public.team_role not null default 'member',
  primary key (team_id, person_id)
);
create table public.videos (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid,
  storage_key text not null default '',
  status text not null default 'new',
  title text
);
alter table public.videos enable row level security;
alter table public.team_assignments enable row level security;
create policy "team sees videos" on public.videos for select to authenticated
  using (tenant_id in (select a.team_id from public.team_assignments a where a.person_id = auth.uid()));
create policy "own assignments" on public.team_assignments for select to authenticated using (person_id = auth.uid());
grant select on table public.videos, public.team_assignments to authenticated;
grant all on table public.videos, public.team_assignments to service_role;
insert into public.videos (id, tenant_id) values ('${videoId(1)}', '${A}'), ('${videoId(2)}', null);
`;

/** Everything that has a name of Holdfast's, or stands where it wants to stand, as far as there is a way around it. */
const COLLIDING = `
create table public.videos (
  id uuid not null unique,
  tenant_id uuid not null,
  storage_key text,
  status text,
  number bigint generated always as identity primary key,
  constraint videos_tenant_id_id_own unique (tenant_id, id)
);
create table public.tenant_members (
  tenant_id uuid not null,
  user_id uuid not null references auth.users (id) on delete cascade,
  level text not null default 'member',
  primary key (tenant_id, user_id)
);
create type public.lock_type as enum ('user', 'worker', 'server');
create type public.database_name as (name text);
create type public.end_reason as enum ('done');
create type public.holder as (name text);
create table public.place (id int primary key);
create table public.database_names (name text primary key);
create function public.acquire_lock(p_name text) returns boolean language sql as 'select true';
create function public.release_lock(p_key bigint, force boolean default false) returns boolean language sql as 'select true';
create function public.guard(p_table regclass) returns text language sql as 'select ''own''';
create function public.version() returns text language sql as 'select ''own''';
create table public.video_database_state (
  video_id uuid not null references public.videos (id) on delete cascade,
  database_name varchar(80) not null,
  tenant_id uuid,
  server_version bigint not null default 1,
  wasabi_version smallint default 0,
  wasabi_synced_at timestamptz default now(),
  lock_holder_user_id text not null default '',
  lock_type public.lock_type,
  locked_at timestamptz default now(),
  last_activity_at timestamptz,
  note text default 'own',
  updated_at timestamptz not null default now(),
  constraint own_pk primary key (video_id, database_name),
  constraint own_lock_check check ((lock_holder_user_id = '') = (lock_type is null))
) with (fillfactor = 90);
comment on table public.video_database_state is 'Our own words.';
comment on column public.video_database_state.locked_at is 'Our own words, too.';
create index video_database_state_tenant_id_video_id_idx on public.video_database_state (tenant_id, video_id);
create index own_holder_idx on public.video_database_state (lock_holder_user_id);
create function public.touch() returns trigger language plpgsql as $$
begin
  if new.note is distinct from old.note then
    new.updated_at := now();
  end if;
  return new;
end $$;
create trigger touch before update on public.video_database_state for each row execute function public.touch();
create view public.versions as select s.video_id, s.database_name, s.server_version from public.video_database_state s;
create table public.exports (
  id int primary key,
  video_id uuid,
  database_name varchar(80),
  constraint exports_state_fkey foreign key (video_id, database_name) references public.video_database_state
);
do $$ begin if to_regrole('own_reporter') is null then create role own_reporter nologin; end if; end $$;
grant select, update on table public.video_database_state to own_reporter;
grant update (note) on table public.video_database_state to authenticated;
alter table public.video_database_state enable row level security;
alter table public.video_database_state force row level security;
create policy "anybody reads" on public.video_database_state for select using (true);
create policy "workers write" on public.video_database_state as restrictive for update to authenticated, own_reporter
  using (lock_type = 'worker') with check (note is not null);
insert into public.videos (id, tenant_id) values ('${videoId(1)}', '${A}');
insert into public.video_database_state (video_id, database_name, tenant_id, server_version, lock_holder_user_id, lock_type)
values
  ('${videoId(1)}', 'layout', '${A}', 8, 'w1', 'worker'),
  ('${videoId(1)}', 'captions', '${A}', 5, '${A}', 'user'),
  ('${videoId(1)}', 'shots', '${A}', 2, '', null);
insert into public.exports values (1, '${videoId(1)}', 'layout');
`;

/** A function of the project's own, whose folder and shared code have names that Holdfast has in its checkout. */
const OWN_FUNCTION = {
  "functions/_shared/errors.ts": `export const GREETING = "own";\n`,
  "functions/lock-status/index.ts":
    `import { GREETING } from "../_shared/errors.ts";\nDeno.serve(() => new Response(GREETING));\n`,
  "functions/lock-status/deno.json": `{ "imports": {} }\n`,
};

/** The projects, as they are called in the issue that asked for them. */
export const PROJECTS = {
  /** What \`supabase init\` makes, and nothing else. */
  empty: { migrations: {} },
  /** The tables of the guidance that this project began with, and rows in them. */
  seed: { migrations: { "20240101000000_videos.sql": SEED } },
  /** A model of members of its own. */
  members: {
    migrations: { "20240101000000_teams.sql": OWN_MEMBERS },
    options: [
      "--members",
      "select a.team_id as tenant_id, a.person_id as user_id, a.role from public.team_assignments a;",
    ],
    forContract:
      "create view public.tenant_members as select team_id as tenant_id, person_id as user_id, role from public.team_assignments",
    afterContract: "drop view public.tenant_members",
  },
  /** Names that are Holdfast's, too. */
  colliding: {
    migrations: {
      "20240101000000_all.sql": COLLIDING,
      "20240102_realtime.sql":
        "drop publication if exists supabase_realtime; create publication supabase_realtime for table public.videos, public.video_database_state;",
    },
    files: OWN_FUNCTION,
    options: [
      "--members",
      "select m.tenant_id, m.user_id, m.level as role from public.tenant_members m",
    ],
    // what is the project's own is the contract's for as long as its tests run; and
    // with a trigger before each update callers are answered busy more often than the tests of a race allow
    forContract: `alter table public.video_database_state disable trigger touch;
      alter table public.video_database_state alter column wasabi_synced_at drop default;
      alter table public.video_database_state drop constraint video_database_state_video_id_fkey,
        add constraint video_database_state_video_id_fkey foreign key (video_id) references public.videos (id) on update cascade on delete cascade;
      grant all on table public.videos to service_role;
      grant select on table public.videos to authenticated;
      alter table public.tenant_members rename to own_members;
      create view public.tenant_members as select tenant_id, user_id, level as role from public.own_members`,
    afterContract: `drop view public.tenant_members;
      alter table public.own_members rename to tenant_members;
      revoke all on table public.videos from service_role, authenticated;
      alter table public.video_database_state drop constraint video_database_state_video_id_fkey,
        add constraint video_database_state_video_id_fkey foreign key (video_id) references public.videos (id) on delete cascade;
      alter table public.video_database_state alter column wasabi_synced_at set default now();
      alter table public.video_database_state enable trigger touch`,
  },
  /** Migrations that are dated later than today. */
  later: {
    migrations: {
      "20240101000000_notes.sql": "create table public.notes (id int primary key);",
      "20991231235959_more.sql": "alter table public.notes add column text text;",
    },
  },
} satisfies Record<string, OwnProject>;
