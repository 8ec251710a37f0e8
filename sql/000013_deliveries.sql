-- A delivery counts once for whoever signed it, and is for one job and one attempt: its signature is
-- of its bytes and not of where they are sent, so the same bytes could end any job.

alter table jobcast.webhook_deliveries add column signer text;

comment on column jobcast.webhook_deliveries.signer is
  'Names the secret that signed it, and is not the secret; null where a token of the job was enough.';

-- The primary key stays: one id for one job is one delivery, also while the secret rotates.
create unique index webhook_deliveries_once_per_signer on jobcast.webhook_deliveries (signer, webhook_id)
  where signer is not null;

drop function jobcast.apply_callback(uuid, jsonb, integer, text);

create function jobcast.apply_callback(
  id uuid, patch jsonb, attempt integer default null, webhook_id text default null, signer text default null
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
    if exists (
      select from jobcast.webhook_deliveries d
      where d.webhook_id = apply_callback.webhook_id
        and (d.job_id = apply_callback.id or d.signer = apply_callback.signer)
    ) then
      return query select false, 'duplicate', v_before;
      return;
    end if;
    if apply_callback.attempt is not null and apply_callback.attempt <> v_before.attempt then
      -- Not claimed: it was for somebody else, who may yet get it.
      return query select false, 'JC003', v_before;
      return;
    end if;
    insert into jobcast.webhook_deliveries (job_id, webhook_id, signer)
      values (apply_callback.id, apply_callback.webhook_id, apply_callback.signer)
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

comment on function jobcast.apply_callback(uuid, jsonb, integer, text, text) is
  'A delivery: whether it changed the job, and if not, why: JC001, JC002, JC003, duplicate, or null when it said nothing new.';
