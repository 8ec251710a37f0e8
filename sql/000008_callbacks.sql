-- Deliveries of external providers that were applied, so that a redelivery changes nothing, also
-- days later and after a retry. The claim and its effect are one transaction.

create table jobcast.webhook_deliveries (
  webhook_id text not null primary key,
  job_id uuid not null references jobcast.jobs (id) on delete cascade,
  received_at timestamptz not null default clock_timestamp()
);

create index webhook_deliveries_by_job on jobcast.webhook_deliveries (job_id);

create function jobcast.apply_callback(
  id uuid, patch jsonb, attempt integer default null, webhook_id text default null
) returns table (problem text, job jobcast.jobs)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if not exists (select from jobcast.jobs j where j.id = apply_callback.id) then
    return query select 'JC002', null::jobcast.jobs;
    return;
  end if;
  if apply_callback.webhook_id is not null then
    -- Of deliveries that come at once the others wait here for the first one's commit.
    insert into jobcast.webhook_deliveries (webhook_id, job_id)
      values (apply_callback.webhook_id, apply_callback.id)
      on conflict do nothing;
    if not found then
      return query select null::text, j from jobcast.jobs j where j.id = apply_callback.id;
      return;
    end if;
  end if;
  return query
    select u.problem, u.job
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
  'A delivery: what is a duplicate, late, or of another attempt is told as a problem and changes nothing.';
