-- Purpose: browsers see who holds what as it changes. Through the write-ahead log, so that no lock transaction waits
-- for it (pg_notify would serialize their commits). Row level security decides who sees which row.
do $$
begin
  if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table public.video_database_state;
  else
    raise notice 'There is no publication supabase_realtime here: lock changes are not sent to browsers.';
  end if;
end;
$$;
