/** What schema public consists of, by the catalogs: a line for each part, in order. */
export const STRUCTURE = `
  with relations as (select * from pg_class where relnamespace = 'public'::regnamespace)
  select 'relation ' || relname || ' ' || relkind::text || ' ' || relrowsecurity || ' ' || relforcerowsecurity || ' '
    || coalesce(reloptions::text, '') || ' ' || coalesce(obj_description(oid, 'pg_class'), '') as line
  from relations
  union all
  select 'column ' || r.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
    || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || coalesce(a.attstattarget, -1) || ' ' || a.attidentity::text || ' '
    || coalesce(col_description(r.oid, a.attnum), '')
  from relations r
  join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
  union all
  select 'constraint ' || r.relname || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
  from relations r join pg_constraint c on c.conrelid = r.oid
  union all
  select 'index ' || pg_get_indexdef(i.indexrelid) from relations r join pg_index i on i.indrelid = r.oid
  union all
  select 'trigger ' || r.relname || ' ' || t.tgenabled::text || pg_get_triggerdef(t.oid)
  from relations r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
  union all
  select 'policy ' || p.tablename || ' ' || p.policyname || ' ' || p.permissive || ' ' || p.cmd || ' ' || p.roles::text || ' '
    || coalesce(p.qual, '') || ' ' || coalesce(p.with_check, '')
  from pg_policies p where p.schemaname = 'public'
  union all
  select 'view ' || r.relname || ' ' || pg_get_viewdef(r.oid) from relations r where r.relkind in ('v', 'm')
  union all
  select 'right ' || o.name || ' ' || coalesce(g.rolname, 'public') || ' ' || a.privilege_type || ' ' || a.is_grantable
  from (
    select relname as name, relacl as acl, relowner as owner from relations
    union all
    select r.relname || '.' || a.attname, a.attacl, r.relowner
    from relations r join pg_attribute a on a.attrelid = r.oid and not a.attisdropped
    union all
    select oid::regprocedure::text, proacl, proowner from pg_proc where pronamespace = 'public'::regnamespace
  ) o
  cross join lateral aclexplode(o.acl) a
  left join pg_roles g on g.oid = a.grantee
  where a.grantee <> o.owner
  union all
  select 'function ' || pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace
  union all
  select 'type ' || typname || ' ' || typtype::text from pg_type where typnamespace = 'public'::regnamespace
  union all
  select 'published ' || pubname || ' ' || tablename from pg_publication_tables where schemaname = 'public'
  order by 1`;
