-- Browsers see who holds what as it changes. Through the write-ahead log, so that no lock transaction waits for it (pg_notify
-- would serialize their commits). Row level security decides who sees which row.
do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    raise notice 'There is no publication supabase_realtime here: lock changes are not sent to browsers.';
    return;
  end if;
  alter publication supabase_realtime add table public.video_database_state;
exception when others then
  -- it may be FOR ALL TABLES already, or not ours to change
  raise notice 'The publication supabase_realtime was left as it is: %', sqlerrm;
end;
$$;
