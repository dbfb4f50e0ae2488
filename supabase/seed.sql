-- A demo tenant with three videos, for the README and the curl that start-up prints.
insert into public.videos (id, tenant_id, storage_key, status)
values
  ('00000000-0000-4000-8000-000000000101', '00000000-0000-4000-8000-000000000001', 'demo/intro.mp4', 'ready'),
  ('00000000-0000-4000-8000-000000000102', '00000000-0000-4000-8000-000000000001', 'demo/interview.mp4', 'ready'),
  ('00000000-0000-4000-8000-000000000103', '00000000-0000-4000-8000-000000000001', 'demo/outro.mp4', 'uploading')
on conflict (id) do nothing;
