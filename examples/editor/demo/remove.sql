-- Takes away all that tables.sql and views.sql made, and the demo's videos.
drop view public.lock_board, public.lock_history;
drop function public.ask_to_hand_over, public.decline_to_hand_over;
select holdfast.unguard('public.captions');
select holdfast.unguard('public.layout');
delete from public.videos where title is not null;
delete from public.tenant_members where tenant_id in (select t.id from public.tenants t);
delete from public.video_database_lock_history where tenant_id in (select t.id from public.tenants t);
drop table public.hand_over_requests, public.saves, public.captions, public.layout, public.profiles, public.tenants;
alter table public.videos drop column title;
drop schema editor cascade;
notify pgrst, 'reload schema';
