-- What an application has beside Holdfast: names and pictures of people, titles of videos, and the databases themselves,
-- captions and layout, guarded. In a project of yours this would be a migration; `deno task demo` applies it to its own stack.

create schema editor; -- not exposed by the Data API
grant usage on schema editor to authenticated, service_role;

create table public.tenants (
  id uuid not null,
  name text not null,
  constraint tenants_pkey primary key (id)
);
comment on table public.tenants is 'What a tenant is called.';
alter table public.tenants enable row level security;
create policy tenants_select_member on public.tenants for select to authenticated
  using (id = any (array(
    select m.tenant_id from public.tenant_members m where m.user_id = (select auth.uid())
  )));
grant select on public.tenants to authenticated, service_role;

alter table public.videos add column title text;
comment on column public.videos.title is 'What people call the video.';

create table public.profiles (
  user_id uuid not null,
  name text not null,
  picture text not null,
  constraint profiles_pkey primary key (user_id),
  constraint profiles_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade
);
comment on table public.profiles is 'Name and picture of a person: what a lock shows instead of a user id.';

-- members see their own memberships only, so who works with whom is asked with the owner's rights
create function editor.colleagues() returns setof uuid
language sql stable security definer set search_path = ''
as $$
  select other.user_id
  from public.tenant_members me
  join public.tenant_members other on other.tenant_id = me.tenant_id
  where me.user_id = auth.uid()
$$;
revoke all on function editor.colleagues() from public, anon;
grant execute on function editor.colleagues() to authenticated, service_role;
comment on function editor.colleagues() is 'Those who share a tenant with the caller.';

alter table public.profiles enable row level security;
create policy profiles_select_colleague on public.profiles for select to authenticated
  using (user_id in (select editor.colleagues()));
grant select on public.profiles to authenticated, service_role;

-- The two databases of a video.

create table public.captions (
  video_id uuid not null,
  id uuid not null default gen_random_uuid(),
  starts_at numeric(7, 1) not null,
  text text not null,
  constraint captions_pkey primary key (video_id, id),
  constraint captions_video_id_fkey foreign key (video_id) references public.videos (id) on delete cascade
);
comment on table public.captions is 'The captions of a video, a row each; starts_at in seconds.';

create table public.layout (
  video_id uuid not null,
  heading text not null,
  position text not null,
  theme text not null,
  logo boolean not null,
  constraint layout_pkey primary key (video_id),
  constraint layout_video_id_fkey foreign key (video_id) references public.videos (id) on delete cascade,
  constraint layout_position_check check (position in ('top', 'centre', 'bottom')),
  constraint layout_theme_check check (theme in ('daylight', 'midnight', 'sunset'))
);
comment on table public.layout is 'How a video is laid out.';

alter table public.captions enable row level security;
alter table public.layout enable row level security;
create policy captions_member on public.captions to authenticated
  using (exists (select from public.videos v where v.id = video_id))
  with check (exists (select from public.videos v where v.id = video_id));
create policy layout_member on public.layout to authenticated
  using (exists (select from public.videos v where v.id = video_id))
  with check (exists (select from public.videos v where v.id = video_id));
grant select, insert, update, delete on public.captions, public.layout to authenticated, service_role;
grant update (status) on public.videos to service_role;

-- Who reads along sees a save as soon as it is made: each save of a database counts up.

create table public.saves (
  video_id uuid not null,
  database_name text not null,
  version integer not null,
  saved_at timestamptz not null,
  constraint saves_pkey primary key (video_id, database_name),
  constraint saves_video_id_fkey foreign key (video_id) references public.videos (id) on delete cascade
);
comment on table public.saves is 'How often a database of a video has been saved, and when last.';
alter table public.saves enable row level security;
create policy saves_select_member on public.saves for select to authenticated
  using (exists (select from public.videos v where v.id = video_id));
grant select on public.saves to authenticated, service_role;

create function editor.count_save() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  insert into public.saves as s (video_id, database_name, version, saved_at)
  select v.id, tg_table_name, 1, clock_timestamp()
  from public.videos v -- not of a video that is being deleted
  where v.id in (select r.video_id from changed r)
  on conflict (video_id, database_name) do update set version = s.version + 1, saved_at = excluded.saved_at;
  return null;
end;
$$;
comment on function editor.count_save() is 'Trigger: counts a save of the table that it is on.';

create trigger count_insert after insert on public.captions
  referencing new table as changed for each statement execute function editor.count_save();
create trigger count_update after update on public.captions
  referencing new table as changed for each statement execute function editor.count_save();
create trigger count_delete after delete on public.captions
  referencing old table as changed for each statement execute function editor.count_save();
create trigger count_insert after insert on public.layout
  referencing new table as changed for each statement execute function editor.count_save();
create trigger count_update after update on public.layout
  referencing new table as changed for each statement execute function editor.count_save();
