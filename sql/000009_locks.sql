-- Locks of many jobs: taken in the order of the ids, and no row is written that was not locked then.
-- A row that came into the set later (made, or pending again) would be locked out of order: its
-- writer may hold it and wait for one of ours, which is a deadlock.
-- JC007: the job is locked by another transaction, for those who would not wait for it.

create or replace function jobcast.cancel_batch(id uuid, message text default null, source text default null)
returns setof jobcast.jobs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_locked uuid[];
begin
  perform set_config('jobcast.source', coalesce(cancel_batch.source, v_source, ''), true);
  v_locked := array(
    select j.id from jobcast.jobs j
    where j.batch_id = cancel_batch.id and not jobcast.is_final(j.status)
    order by j.id for update
  );
  return query
    update jobcast.jobs j
    set status = 'cancelled', message = coalesce(cancel_batch.message, j.message)
    where j.id = any (v_locked)
    returning j.*;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
end
$$;

drop function jobcast.update_jobs(jsonb, text);

create function jobcast.update_jobs(
  patches jsonb, source text default null, skip_locked boolean default false
) returns table (item integer, problem text, job jobcast.jobs)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_named constant uuid[] := array(
    select distinct (p ->> 'id')::uuid from jsonb_array_elements(update_jobs.patches) p
  );
  v_locked uuid[];
  v_round record;
begin
  perform set_config('jobcast.source', coalesce(update_jobs.source, v_source, ''), true);
  if update_jobs.skip_locked then
    v_locked := array(
      select j.id from jobcast.jobs j where j.id = any (v_named) order by j.id for update skip locked
    );
  else
    v_locked := array(
      select j.id from jobcast.jobs j where j.id = any (v_named) order by j.id for update
    );
  end if;

  -- Several patches of one job are as many versions, so each round has at most one of each job.
  for v_round in
    select
      array_agg(p.item order by p.item) as items,
      array_agg(p.id order by p.item) as ids,
      array_agg(p.patch order by p.item) as patches,
      array_agg(p.is_locked order by p.item) as are_locked
    from (
      select n.item, n.id, n.patch, l.id is not null as is_locked,
        row_number() over (partition by n.id order by n.item) as number
      from (
        select p.position::integer as item, (p.patch ->> 'id')::uuid as id, p.patch
        from jsonb_array_elements(update_jobs.patches) with ordinality p (patch, position)
      ) n
      left join unnest(v_locked) l (id) on l.id = n.id
    ) p
    group by p.number
    order by p.number
  loop
    return query
    with judged as (
      select p.item, p.id, p.patch, j as job,
        case
          when j.id is null then 'JC002'
          -- Without skip_locked it was made while we waited for the others.
          when not p.is_locked then case when update_jobs.skip_locked then 'JC007' else 'JC002' end
          when (p.patch ->> 'attempt')::integer <> j.attempt then 'JC003'
          when jobcast.is_final(j.status) and p.patch ->> 'status' is distinct from j.status then 'JC001'
          when jobcast.status_rank(p.patch ->> 'status') < jobcast.status_rank(j.status) then 'JC001'
        end as problem
      from unnest(v_round.items, v_round.ids, v_round.patches, v_round.are_locked)
        p (item, id, patch, is_locked)
      left join jobcast.jobs j on j.id = p.id
    ),
    updated as (
      update jobcast.jobs j
      set (status, progress, stage, message, counts, result, error) = (
        select n.status, n.progress, n.stage, n.message, n.counts, n.result, n.error
        from jsonb_populate_record(j, g.patch) n
      )
      from judged g
      where g.id = j.id and g.problem is null
      returning j.*
    )
    select g.item, g.problem, coalesce((select u::jobcast.jobs from updated u where u.id = g.id), g.job)
    from judged g
    order by g.item;
  end loop;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
end
$$;

comment on function jobcast.update_jobs(jsonb, text, boolean) is
  'Up to thousands of updates as one statement: [{id, attempt?, status?, progress?, stage?, message?, counts?, result?, error?}, ...]. A problem is an SQLSTATE and leaves its job alone; with skip_locked a job that somebody holds is one (JC007).';
