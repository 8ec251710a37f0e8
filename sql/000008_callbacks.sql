-- Deliveries of external providers that were taken, so that a redelivery changes nothing, also
-- days later and after a retry. The claim and its effect are one transaction.

create table jobcast.webhook_deliveries (
  job_id uuid not null references jobcast.jobs (id) on delete cascade,
  webhook_id text not null,
  received_at timestamptz not null default clock_timestamp(),
  -- Each provider numbers its own deliveries: two of them may give one id to two jobs.
  primary key (job_id, webhook_id)
);

create function jobcast.apply_callback(
  id uuid, patch jsonb, attempt integer default null, webhook_id text default null
) returns table (applied boolean, problem text, job jobcast.jobs)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_before jobcast.jobs;
begin
  -- Deliveries for one job wait here for each other. Without this, two that came at once would
  -- both hold the share of the row that their claims' foreign key takes, and want all of it.
  select * into v_before from jobcast.jobs j where j.id = apply_callback.id for update;
  if not found then
    return query select false, 'JC002', null::jobcast.jobs;
    return;
  end if;
  if apply_callback.webhook_id is not null then
    insert into jobcast.webhook_deliveries (job_id, webhook_id)
      values (apply_callback.id, apply_callback.webhook_id)
      on conflict do nothing;
    if not found then
      return query select false, 'duplicate', v_before;
      return;
    end if;
  end if;
  return query
    select u.problem is null and (u.job).version > v_before.version, u.problem, u.job
    from jobcast.update_jobs(
      jsonb_build_array(
        apply_callback.patch || jsonb_build_object('id', apply_callback.id)
          || case when apply_callback.attempt is null then '{}'
               else jsonb_build_object('attempt', apply_callback.attempt) end
      ),
      'callback'
    ) u;
end
$$;

comment on function jobcast.apply_callback(uuid, jsonb, integer, text) is
  'A delivery: whether it changed the job, and if not, why: JC001, JC002, JC003, duplicate, or null when it said nothing new.';
