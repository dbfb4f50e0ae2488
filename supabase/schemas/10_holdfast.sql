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

-- What Holdfast changes of a table that was there before it, it can give back: `npx holdfast remove` runs these statements, the
-- last first.
create table holdfast.undo (
  step integer not null generated always as identity,
  statement text not null,
  constraint undo_pkey primary key (step)
);
alter table holdfast.undo enable row level security;
revoke all on table holdfast.undo from public, anon, authenticated, service_role;
comment on table holdfast.undo is 'What a removal of Holdfast runs, the last row first, to leave the project''s own tables as they were.';
comment on column holdfast.undo.step is 'In which order it was done.';
comment on column holdfast.undo.statement is 'Undoes it.';

create function holdfast.change(p_statement text, p_undo text) returns void
language plpgsql set search_path = ''
as $$
begin
  execute p_statement;
  insert into holdfast.undo (statement) values (p_undo);
end;
$$;
revoke all on function holdfast.change(text, text) from public, anon, authenticated, service_role;
comment on function holdfast.change(text, text) is
  'For migrations: changes a table that may be the project''s own, and remembers how to undo it.';

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
    perform holdfast.change(
      'alter table public.videos add constraint videos_tenant_id_id_key unique (tenant_id, id)',
      'alter table public.videos drop constraint videos_tenant_id_id_key'
    );
  end if;
end;
$$;
