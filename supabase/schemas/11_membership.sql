-- The seam: who belongs to which tenant is asked here and nowhere else. A project with its own model of members replaces
-- this view (create or replace view), with the same three columns.
create view holdfast.membership as
select m.tenant_id, m.user_id, m.role
from public.tenant_members m;
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
