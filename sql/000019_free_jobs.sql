-- Who works on many jobs of many owners waits for none of them. The end of a paid job changes its
-- owner's account, and the end of a job of a batch the batch: an open transaction of somebody else
-- may hold either for as long as it likes, and all that was to be done together would wait for it.

-- Ends what is overdue and free. What somebody holds is left for the next time; when nothing else is
-- left, it is waited for a little: a busy account is never free for whoever only looks.
create function jobcast.sweep(most integer default 1000, spared uuid[] default '{}')
returns table (job_id uuid, problem text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
  v_overdue uuid[];
  v_free uuid[];
begin
  v_overdue := array(
    -- The time of the statement is one value, which an index can be searched for; the clock's is not.
    select j.id from jobcast.jobs j
    where j.timeout_at <= statement_timestamp() and j.status in ('pending', 'queued', 'processing')
      and j.id <> all (sweep.spared)
    order by j.timeout_at
    limit sweep.most
    for update skip locked
  );
  if cardinality(v_overdue) = 0 then
    return;
  end if;
  v_free := jobcast.lock_free(v_overdue);
  if cardinality(v_free) = 0 then
    v_free := jobcast.lock_busy(v_overdue);
  end if;

  perform set_config('jobcast.source', 'sweeper', true);
  begin
    perform jobcast.expire(v_free);
    job_id := null;
  exception when others then
    -- One that cannot be ended is no reason to let the others wait.
    foreach job_id in array v_free loop
      problem := null;
      begin
        perform jobcast.expire(array[job_id]);
      exception when others then
        problem := sqlstate || ': ' || sqlerrm;
      end;
      return next;
    end loop;
    v_free := '{}';
  end;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
  return query select e.id, null::text from unnest(v_free) e (id);
end
$$;

comment on function jobcast.sweep(integer, uuid[]) is
  'For the service: ends overdue jobs, and gives back those that it ended and, with a problem, those that it could not.';

create function jobcast.lock_free(ids uuid[], with_batches boolean default true) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owners text[];
  v_batches uuid[];
begin
  v_owners := array(
    select a.owner_id from jobcast.credit_accounts a
    where a.owner_id in (select j.owner_id from jobcast.jobs j where j.id = any (lock_free.ids) and j.credits > 0)
    order by a.owner_id
    for update skip locked
  );
  v_batches := array(
    select b.id from jobcast.batches b
    where lock_free.with_batches
      and b.id in (select j.batch_id from jobcast.jobs j where j.id = any (lock_free.ids))
    order by b.id
    for no key update skip locked
  );
  return array(
    select j.id from jobcast.jobs j
    where j.id = any (lock_free.ids)
      and (j.credits = 0 or j.owner_id = any (v_owners))
      and (j.batch_id is null or not lock_free.with_batches or j.batch_id = any (v_batches))
  );
end
$$;

comment on function jobcast.lock_free(uuid[], boolean) is
  'Of jobs that are locked already: those that can be ended now, whose accounts, and batches, are then locked too.';

create function jobcast.lock_busy(ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_timeout constant text := current_setting('lock_timeout');
  v_group record;
begin
  -- A few at random, or one that is held for hours would be all that is ever waited for.
  for v_group in
    select case when j.credits > 0 then j.owner_id end as owner_id, j.batch_id, array_agg(j.id) as ids
    from jobcast.jobs j
    where j.id = any (lock_busy.ids)
    group by 1, 2
    order by random()
    limit 3
  loop
    begin
      perform set_config('lock_timeout', '200ms', true);
      perform from jobcast.credit_accounts a where a.owner_id = v_group.owner_id for update;
      perform from jobcast.batches b where b.id = v_group.batch_id for no key update;
      perform set_config('lock_timeout', v_timeout, true);
      return v_group.ids;
    exception when lock_not_available then
      null; -- the setting is as before
    end;
  end loop;
  return '{}';
end
$$;

revoke execute on function jobcast.sweep(integer, uuid[]) from public;
revoke execute on function jobcast.lock_free(uuid[], boolean) from public;
revoke execute on function jobcast.lock_busy(uuid[]) from public;

create or replace function jobcast.update_jobs(
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
  v_refunded uuid[];
  v_round record;
begin
  perform set_config('jobcast.source', coalesce(update_jobs.source, v_source, ''), true);
  if update_jobs.skip_locked then
    v_locked := array(
      select j.id from jobcast.jobs j where j.id = any (v_named) order by j.id for update skip locked
    );
    -- Whoever may not lock accounts waits for them.
    if has_function_privilege('jobcast.lock_free(uuid[], boolean)', 'execute')
      and has_table_privilege('jobcast.credit_accounts', 'update') then
      v_refunded := array(
        select j.id from jobcast.jobs j
        where j.id = any (v_locked) and j.credits > 0 and not jobcast.is_final(j.status) and j.id in (
          select (p ->> 'id')::uuid from jsonb_array_elements(update_jobs.patches) p
          where p ->> 'status' in ('failed', 'cancelled', 'timeout')
        )
      );
      if cardinality(v_refunded) > 0 then
        v_locked := array(
          select l.id from unnest(v_locked) l (id) where l.id <> all (v_refunded)
          union all
          select f.id from unnest(jobcast.lock_free(v_refunded, with_batches => false)) f (id)
        );
      end if;
    end if;
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
          when (p.patch ->> 'attempt')::numeric <> j.attempt then 'JC003'
          -- What the constraint would say, of this one alone.
          when p.patch ? 'status' and coalesce(p.patch ->> 'status', '') not in (
            'pending', 'queued', 'processing', 'completed', 'failed', 'cancelled', 'timeout'
          ) then '23514'
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
        from jsonb_populate_record(j, g.patch - 'attempt') n
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

create function jobcast.update_each(patches jsonb, source text default null)
returns table (item integer, problem text, job jobcast.jobs)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_patch record;
  v_done record;
begin
  for v_patch in
    select p.position, p.patch from jsonb_array_elements(update_each.patches) with ordinality p (patch, position)
  loop
    begin
      select u.problem, u.job into v_done
        from jobcast.update_jobs(jsonb_build_array(v_patch.patch), update_each.source, skip_locked => true) u;
      problem := v_done.problem;
      job := v_done.job;
    exception when others then
      -- What is wrong with a value, or refused by a rule. All else is wrong with all of them.
      if sqlstate !~ '^(22|23|54|P0)' then
        raise;
      end if;
      problem := sqlstate;
      job := null;
    end;
    item := v_patch.position;
    return next;
  end loop;
end
$$;

comment on function jobcast.update_each(jsonb, text) is
  'update_jobs with skip_locked, each update by itself: what PostgreSQL refuses of one is a problem of that one.';
