-- The clock as a number: what a fencing token is made of.
create function holdfast.clock_token() returns bigint
language sql volatile set search_path = ''
return (date_part('epoch', clock_timestamp()) * 1000000)::bigint;
revoke all on function holdfast.clock_token() from public, anon, authenticated, service_role;
-- a row made by hand has it as its default
grant execute on function holdfast.clock_token() to service_role;
comment on function holdfast.clock_token() is
  'The database''s clock in microseconds since 1970: below 2^53, and so exact in JavaScript, until the year 2255.';
