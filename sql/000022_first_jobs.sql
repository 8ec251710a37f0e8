-- additive: a function more, which versions before do not call

-- What a batch was made with, for whoever has just made it: it reads after the statement that calls
-- it has written, which the statement itself, begun before, does not see.

create function jobcast.first_jobs(batch_id uuid, count integer)
returns setof jobcast.jobs
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select j.*
  from jobcast.jobs j
  where j.batch_id = first_jobs.batch_id
  order by j.created_at, j.id
  limit first_jobs.count
$$;

comment on function jobcast.first_jobs(uuid, integer) is
  'The jobs of a batch in the order in which they were named: what was added later was created later.';
