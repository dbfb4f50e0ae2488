-- Who asks the holder to hand over. It is a wish, and no lock: nobody loses anything by it.
create table public.hand_over_requests (
  video_id uuid not null,
  database_name text not null,
  user_id uuid not null default auth.uid(),
  asked_at timestamptz not null default now(),
  declined_at timestamptz,
  constraint hand_over_requests_pkey primary key (video_id, database_name, user_id),
  constraint hand_over_requests_video_id_fkey foreign key (video_id) references public.videos (id) on delete cascade,
  constraint hand_over_requests_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade
);
comment on table public.hand_over_requests is 'Who asks the holder of a lock to hand it over, and whether the holder has said "not yet".';
alter table public.hand_over_requests enable row level security;
create policy hand_over_requests_select_member on public.hand_over_requests for select to authenticated
  using (exists (select from public.videos v where v.id = video_id));
create policy hand_over_requests_own on public.hand_over_requests to authenticated
  using (user_id = (select auth.uid()))
  with check (
    user_id = (select auth.uid()) and exists (select from public.videos v where v.id = video_id)
  );
-- who holds the lock may say "not yet"
create policy hand_over_requests_answer on public.hand_over_requests for update to authenticated
  using (exists (
    select from public.held_locks h
    where h.video_id = hand_over_requests.video_id
      and h.database_name = hand_over_requests.database_name
      and h.lock_holder_user_id = (select auth.uid())::text
  ));
grant select, insert, delete, update on public.hand_over_requests to authenticated;
grant select on public.hand_over_requests to service_role;

create function public.ask_to_hand_over(video_id uuid, database_name text) returns void
language sql set search_path = ''
as $$
  insert into public.hand_over_requests as r (video_id, database_name)
  values (ask_to_hand_over.video_id, ask_to_hand_over.database_name)
  on conflict (video_id, database_name, user_id) do update set asked_at = now(), declined_at = null
$$;
create function public.decline_to_hand_over(video_id uuid, database_name text) returns void
language sql set search_path = ''
as $$
  update public.hand_over_requests r set declined_at = now()
  where r.video_id = decline_to_hand_over.video_id and r.database_name = decline_to_hand_over.database_name
    and r.declined_at is null
$$;
revoke all on function public.ask_to_hand_over(uuid, text), public.decline_to_hand_over(uuid, text) from public, anon;
grant execute on function public.ask_to_hand_over(uuid, text), public.decline_to_hand_over(uuid, text) to authenticated;
comment on function public.ask_to_hand_over(uuid, text) is 'Asks the holder of a lock to hand it over.';
comment on function public.decline_to_hand_over(uuid, text) is 'Says "not yet" to all who have asked.';

-- One request shows all that the page has to know of locks: who holds, who waits, with names and pictures. As a live screen asks
-- often, it asks once.
create view public.lock_board with (security_invoker = true) as
select v.id as video_id, v.title, v.status, t.name as tenant, v.tenant_id, d.name as database_name,
  h.lock_id, h.lock_holder_user_id as holder_id, h.lock_type as holder_type,
  coalesce(p.name, h.lock_holder_user_id) as holder_name, p.picture as holder_picture,
  h.locked_at, h.last_activity_at, h.ttl_seconds,
  date_part('epoch', h.expires_at - h.server_time) as seconds_left,
  date_part('epoch', h.server_time - h.last_activity_at) as seconds_idle,
  coalesce(w.waiting, '[]'::jsonb) as waiting,
  coalesce(s.version, 0) as version, s.saved_at
from public.videos v
join public.tenants t on t.id = v.tenant_id
cross join (values ('captions'), ('layout')) d (name)
left join public.held_locks h on h.video_id = v.id and h.database_name = d.name
left join public.profiles p on h.lock_type = 'client' and p.user_id::text = h.lock_holder_user_id
left join public.saves s on s.video_id = v.id and s.database_name = d.name
left join lateral (
  select jsonb_agg(jsonb_build_object(
    'position', q."position", 'id', q.lock_holder_user_id, 'type', q.lock_type,
    'name', coalesce(qp.name, q.lock_holder_user_id), 'picture', qp.picture,
    'since', q.queued_at, 'asked_at', r.asked_at, 'declined_at', r.declined_at
  ) order by q."position") as waiting
  from public.waiting_locks q
  left join public.profiles qp on q.lock_type = 'client' and qp.user_id::text = q.lock_holder_user_id
  left join public.hand_over_requests r on r.video_id = q.video_id and r.database_name = q.database_name
    and r.user_id = qp.user_id and r.asked_at > now() - interval '10 minutes'
  where q.video_id = v.id and q.database_name = d.name
) w on true;
grant select on public.lock_board to authenticated;
comment on view public.lock_board is 'Each database of each video that the caller may see: who holds its lock, who waits, when it was saved.';

create view public.lock_history with (security_invoker = true) as
select h.video_id, h.database_name, h.lock_id, h.lock_type as holder_type,
  coalesce(p.name, h.lock_holder_user_id) as holder_name, p.picture as holder_picture,
  h.locked_at, h.ended_at, h.end_reason, coalesce(e.name, h.ended_by) as ended_by
from public.video_database_lock_history h
left join public.profiles p on h.lock_type = 'client' and p.user_id::text = h.lock_holder_user_id
left join public.profiles e on e.user_id::text = h.ended_by;
grant select on public.lock_history to authenticated;
comment on view public.lock_history is 'The history of each lock, with names.';

-- where there is Realtime, a wish to hand over and a save arrive at once, too
do $$
begin
  if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime' and not puballtables) then
    alter publication supabase_realtime add table public.hand_over_requests, public.saves;
  end if;
end;
$$;

-- From here on a write needs the fencing token of the live lease.
select holdfast.guard('public.captions', database => 'captions');
select holdfast.guard('public.layout', database => 'layout');

notify pgrst, 'reload schema';
