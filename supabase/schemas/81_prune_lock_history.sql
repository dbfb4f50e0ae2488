create function holdfast.prune_lock_history(p_older_than interval, p_batch_size integer) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_pruned integer;
begin
  perform holdfast.raise_invalid_request(array[
    -- a request can be delayed, and is answered from the history
    case when (p_older_than >= interval '1 day') is not true then 'older_than must be an interval of 1 day or more' end,
    case when (p_batch_size between 1 and 100000) is not true then 'batch_size must be an integer from 1 to 100000' end
  ]);
  delete from public.video_database_lock_history h
  where h.ctid = any (array(
    select l.ctid
    from public.video_database_lock_history l
    where l.ended_at < clock_timestamp() - p_older_than
    limit p_batch_size
    for update skip locked
  ));
  get diagnostics v_pruned = row_count;
  return v_pruned;
end;
$$;
revoke all on function holdfast.prune_lock_history(interval, integer) from public, anon, authenticated, service_role;
grant execute on function holdfast.prune_lock_history(interval, integer) to service_role;
comment on function holdfast.prune_lock_history(interval, integer) is
  'What public.prune_lock_history() does, with the owner''s rights on the history.';

create function public.prune_lock_history(older_than interval default '90 days', batch_size integer default 10000)
returns integer
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.prune_lock_history(older_than, batch_size);
end;
$$;
revoke all on function public.prune_lock_history(interval, integer) from public, anon, authenticated, service_role;
grant execute on function public.prune_lock_history(interval, integer) to service_role;
comment on function public.prune_lock_history(interval, integer) is
  'Deletes entries of the lock history, in batches. A lock_id whose entry is gone is as good as new, so keep entries longer than any request can be delayed.

older_than interval, 1 day or more, default 90 days: since when an entry''s lease has to have ended.
batch_size integer, 1 to 100000, default 10000: how many at most. Call it again while it returns as many.

Returns integer: how many entries it deleted.
Raises PT400 (a rule is broken).';
