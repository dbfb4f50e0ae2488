-- What the Data API does not expose: Holdfast's types, helpers and line, and the code that runs with more rights than its
-- caller.
create schema holdfast;
revoke all on schema holdfast from public;
grant usage on schema holdfast to authenticated, service_role;
comment on schema holdfast is
  'Holdfast''s inside: never exposed by the Data API; called by the functions of the same name in public.';

create function holdfast.version() returns text
language sql immutable set search_path = ''
return '0.1.0';
revoke all on function holdfast.version() from public, anon, authenticated, service_role;
comment on function holdfast.version() is 'The version of Holdfast that this database has, as in CHANGELOG.md.';

-- The foreign key of the locks needs a key of both columns, so that a copied tenant_id can never be wrong. tenant_id leads,
-- because policies filter by it.
do $$
begin
  if not exists (
    select from pg_catalog.pg_index i
    where i.indrelid = 'public.videos'::regclass and i.indisunique and i.indpred is null and i.indimmediate
      and i.indkey::text = (
        select string_agg(a.attnum::text, ' ' order by a.attname desc)
        from pg_catalog.pg_attribute a
        where a.attrelid = i.indrelid and a.attname in ('id', 'tenant_id')
      )
  ) then
    alter table public.videos add constraint videos_tenant_id_id_key unique (tenant_id, id);
  end if;
end;
$$;
