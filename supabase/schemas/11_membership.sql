-- The seam: who belongs to which tenant is asked here and nowhere else. A project with its own model of members replaces
-- this view (create or replace view), with the same three columns.
create view holdfast.membership as
select null::uuid as tenant_id, null::uuid as user_id, null::text as role
where false;
do $$
declare
  v_query constant text := coalesce(
    nullif(current_setting('holdfast.members', true), ''),
    'select t.tenant_id, t.user_id, t.role from public.tenant_members t'
  );
begin
  -- an own table may have its roles as an enum
  execute 'create or replace view holdfast.membership as select m.tenant_id, m.user_id, m.role::text as role from (' || v_query || ') m';
end;
$$;
revoke all on table holdfast.membership from public, anon, authenticated, service_role;
comment on view holdfast.membership is
  'Which user (user_id uuid) belongs to which tenant (tenant_id uuid), and as what (role text: admin may force a release). Replace it where members are kept elsewhere.';
comment on column holdfast.membership.tenant_id is 'The tenant.';
comment on column holdfast.membership.user_id is 'The user, as auth.uid() names them.';
comment on column holdfast.membership.role is 'admin may also force a release; any other role may lock.';

create function holdfast.tenants_of_caller() returns uuid[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  return array(select m.tenant_id from holdfast.membership m where m.user_id = auth.uid());
end;
$$;
revoke all on function holdfast.tenants_of_caller() from public, anon, authenticated, service_role;
grant execute on function holdfast.tenants_of_caller() to authenticated;
comment on function holdfast.tenants_of_caller() is 'The tenants that the caller belongs to; for the policies.';

-- Videos that Holdfast made for a project with members of its own: seen by the same rule as the locks.
do $$
begin
  if coalesce(current_setting('holdfast.members', true), '') <> ''
    and obj_description('public.videos'::regclass) like 'A video. Its databases %'
    and not exists (select from pg_catalog.pg_policy p where p.polrelid = 'public.videos'::regclass)
  then
    perform holdfast.change(
      'create policy videos_select_member on public.videos for select to authenticated using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]))',
      'drop policy videos_select_member on public.videos'
    );
  end if;
end;
$$;
