-- Browsers see who holds what as it changes. Through the write-ahead log, so that no lock transaction waits for it (pg_notify
-- would serialize their commits). Row level security decides who sees which row.
do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    raise notice 'There is no publication supabase_realtime here: lock changes are not sent to browsers.';
    return;
  end if;
  perform
  from pg_catalog.pg_publication_tables t
  where t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = 'video_database_state';
  if found then
    raise notice 'The publication supabase_realtime was left as it is: it has video_database_state already.';
    return;
  end if;
  perform holdfast.change(
    'alter publication supabase_realtime add table public.video_database_state',
    'alter publication supabase_realtime drop table public.video_database_state'
  );
exception when others then
  -- it may not be ours to change
  raise notice 'The publication supabase_realtime was left as it is: %', sqlerrm;
end;
$$;
