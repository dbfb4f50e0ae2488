-- The application's own tables: what is locked (videos) and who may lock it (members of the tenant that owns a video). A
-- project that has its own keeps it: each of the two is made only where there is none. A project that keeps its members
-- elsewhere says so (holdfast.members), and gets no table of members.
do $$
begin
  if to_regclass('public.tenant_members') is not null or coalesce(current_setting('holdfast.members', true), '') <> '' then
    return;
  end if;
  create table public.tenant_members (
    tenant_id uuid not null,
    user_id uuid not null,
    role text not null default 'member',
    created_at timestamptz not null default now(),
    constraint tenant_members_pkey primary key (tenant_id, user_id),
    constraint tenant_members_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
    constraint tenant_members_role_check check (role in ('member', 'admin'))
  );

  -- whole, like the primary key: with either of the two, a plan looks up one membership, not all that the user has
  create index tenant_members_user_id_tenant_id_idx on public.tenant_members (user_id, tenant_id);

  comment on table public.tenant_members is 'Which user belongs to which tenant. Written by the service only, never by users.';
  comment on column public.tenant_members.tenant_id is 'The tenant.';
  comment on column public.tenant_members.user_id is 'The user, of auth.users. Gone with the user.';
  comment on column public.tenant_members.role is 'member may lock the tenant''s videos; admin may also force a lock''s release.';
  comment on column public.tenant_members.created_at is 'When the user joined.';

  -- The planner's estimates pass row level security by (Prefer: count=planned). Without statistics on these columns they say
  -- nothing of one tenant or user.
  alter table public.tenant_members
    alter column tenant_id set statistics 0,
    alter column user_id set statistics 0;

  alter table public.tenant_members enable row level security;
  create policy tenant_members_select_own on public.tenant_members
    for select to authenticated
    using (user_id = (select auth.uid()));

  -- Older projects grant everything on a new table to the API's roles, newer ones nothing. Same state in both.
  revoke all on table public.tenant_members from public, anon, authenticated, service_role;
  grant select on table public.tenant_members to authenticated;
  grant select, insert, update, delete on table public.tenant_members to service_role;
end;
$$;

do $$
begin
  if to_regclass('public.videos') is not null then
    return;
  end if;
  create table public.videos (
    id uuid not null default gen_random_uuid(),
    tenant_id uuid not null,
    storage_key text not null,
    status text not null,
    created_at timestamptz not null default now(),
    constraint videos_pkey primary key (id)
  );

  comment on table public.videos is 'A video. Its databases (layout, captions, …) are what gets locked.';
  comment on column public.videos.id is 'Names the video.';
  comment on column public.videos.tenant_id is 'The tenant that owns the video; its members may see and lock it.';
  comment on column public.videos.storage_key is 'Where the video''s file lies in object storage.';
  comment on column public.videos.status is 'Where the video is in its processing, in the application''s own words.';
  comment on column public.videos.created_at is 'When the row was made.';

  -- as with members
  alter table public.videos
    alter column id set statistics 0,
    alter column tenant_id set statistics 0,
    alter column storage_key set statistics 0;

  alter table public.videos enable row level security;
  if coalesce(current_setting('holdfast.members', true), '') = '' then
    -- "= any (array(…))" is read once and then looked up in the index. With "in (…)" every row of every tenant would be read
    -- and tried: slower the more others have, and so a sign of what they have.
    create policy videos_select_member on public.videos
      for select to authenticated
      using (tenant_id = any (array(
        select m.tenant_id from public.tenant_members m where m.user_id = (select auth.uid())
      )));
  end if;

  revoke all on table public.videos from public, anon, authenticated, service_role;
  grant select on table public.videos to authenticated;
  grant select, insert, update, delete on table public.videos to service_role;
end;
$$;
