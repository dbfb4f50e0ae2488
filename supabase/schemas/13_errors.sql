-- Everything that the functions raise, in one place. A refused lock is an answer; these are for what cannot be answered.
-- SQLSTATE PTnnn makes PostgREST answer with HTTP status nnn. supabase/functions/_shared/errors.ts has the same table for
-- HTTP; supabase/tests/contract/both_doors_test.ts compares the two.
create function holdfast.raise_error(p_code text, p_what text default null) returns void
language plpgsql set search_path = ''
as $$
begin
  case p_code
    when 'NOT_AUTHENTICATED' then
      raise exception using errcode = 'PT401', message = 'The token names no user',
        detail = 'auth.uid() is null: the token has no "sub" claim.',
        hint = 'Sign in, and send the user''s access token as Authorization: Bearer.';
    when 'FORBIDDEN' then
      raise exception using errcode = 'PT403', message = p_what,
        detail = 'The credentials are good, but do not give this right.',
        hint = 'See docs/reference/authority.md for who may do what.';
    when 'VIDEO_NOT_FOUND' then
      raise exception using errcode = 'PT404', message = 'There is no such video',
        detail = 'No video with this id belongs to a tenant of the caller.',
        hint = 'Check video_id, and that the caller is a member of the video''s tenant.';
    when 'LOCK_NOT_HELD' then
      raise exception using errcode = 'PT412', message = 'The lock is not held with this fencing token',
        detail = p_what,
        hint = 'Write nothing more under this token. Acquire the lock again, and read the data anew.';
    when 'LOCK_BUSY' then
      raise exception using errcode = 'PT503', message = 'The lock is being changed just now',
        detail = p_what,
        hint = 'Nothing was written. Try the same again in a moment.';
  end case;
end;
$$;
revoke all on function holdfast.raise_error(text, text) from public, anon, authenticated, service_role;
comment on function holdfast.raise_error(text, text) is 'Raises an error of the API by its code: PT401, PT403, PT404, PT412 or PT503.';

create function holdfast.raise_invalid_request(p_broken_rules text[]) returns void
language plpgsql set search_path = ''
as $$
begin
  if array_remove(p_broken_rules, null) = '{}' then
    return;
  end if;
  raise exception using errcode = 'PT400', message = 'The request breaks a rule',
    detail = (
      select json_agg(json_build_object(
        'path', split_part(r, ' ', 1), 'message', substr(r, strpos(r, ' ') + 1)
      ))
      from unnest(p_broken_rules) as r
      where r is not null
    )::text,
    hint = 'Correct the arguments that the detail names.';
end;
$$;
revoke all on function holdfast.raise_invalid_request(text[]) from public, anon, authenticated, service_role;
comment on function holdfast.raise_invalid_request(text[]) is
  'Raises PT400 if any rule is broken. p_broken_rules: "argument what is wrong with it", NULL where the rule holds; the error''s detail is JSON, [{ path, message }].';

create function holdfast.broken_rules_of_names(p_video_id uuid, p_database_name text, p_database_names text[])
returns text[]
language plpgsql immutable set search_path = ''
as $$
declare
  v_pattern constant text := '^[a-z][a-z0-9_-]{0,62}$';
begin
  return array_remove(array[
    case when p_video_id is null then 'video_id is required' end,
    case when p_database_name is null and p_database_names is null
      then 'database_name is required, or database_names' end,
    case when p_database_name is not null and p_database_names is not null
      then 'database_names excludes database_name: send one of them' end,
    case when p_database_name !~ v_pattern then 'database_name must match ' || v_pattern end,
    case when p_database_names is not null and (
        cardinality(p_database_names) between 1 and 16
        and array_ndims(p_database_names) = 1
        and (select bool_and(n ~ v_pattern) and count(distinct n) = count(*) and count(n) = count(*)
          from unnest(p_database_names) n)
      ) is not true
      then 'database_names must be 1 to 16 different names that match ' || v_pattern end
  ], null);
end;
$$;
revoke all on function holdfast.broken_rules_of_names(uuid, text, text[])
  from public, anon, authenticated, service_role;
comment on function holdfast.broken_rules_of_names(uuid, text, text[]) is
  'The rules of video_id, database_name and database_names that are broken; the same for acquire, renew and release.';
