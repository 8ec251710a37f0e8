-- Ends what is overdue. Any number of processes may call it at once.

create function jobcast.expire_jobs(most integer default 1000) returns setof jobcast.jobs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_source constant text := current_setting('jobcast.source', true);
begin
  perform set_config('jobcast.source', 'sweeper', true);
  return query
    update jobcast.jobs j
    set status = 'timeout',
      error = jsonb_build_object('code', 'timeout', 'message', 'The job was not done by ' ||
        to_char(j.timeout_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '.')
    where j.id in (
      -- Locked jobs are being ended or reported on by somebody else right now.
      select d.id from jobcast.jobs d
      where d.timeout_at <= clock_timestamp() and d.status in ('pending', 'queued', 'processing')
      order by d.timeout_at
      limit expire_jobs.most
      for update skip locked
    )
    returning j.*;
  perform set_config('jobcast.source', coalesce(v_source, ''), true);
end
$$;

comment on function jobcast.expire_jobs(integer) is
  'Ends overdue jobs as timeout, through the same rules as everybody: refund, history, stream.';
