-- Where there is pg_cron: every minute, and every night. Without it everything holds too; rows of lapsed leases then stay until
-- their lock is next acquired, and the history grows until it is pruned by hand.
do $$
begin
  if not exists (select from pg_catalog.pg_available_extensions where name = 'pg_cron') then
    raise notice 'pg_cron is not available here: release_expired_locks() and prune_lock_history() are not scheduled. No lock depends on them; see docs/operating/watch.md.';
    return;
  end if;
  create extension if not exists pg_cron;
  perform cron.schedule('holdfast-release-expired-locks', '* * * * *', 'select holdfast.release_expired_locks(10000)');
  perform cron.schedule('holdfast-prune-lock-history', '17 3 * * *',
    $run$select holdfast.prune_lock_history('90 days', 100000)$run$);
exception when others then
  raise notice 'pg_cron could not be used (%): release_expired_locks() and prune_lock_history() are not scheduled. No lock depends on them; see docs/operating/watch.md.', sqlerrm;
end;
$$;
