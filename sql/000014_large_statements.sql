-- A session keeps the plan that it made when its statements changed one row each, and then an update
-- of thousands compares each of them with each: 8,000 jobs took 18 s. There are two ways to join that
-- do not, and for one row they cost the same.
alter function jobcast.tg_jobs__append_history() set enable_nestloop = off;
alter function jobcast.tg_jobs__note_batch_changes() set enable_nestloop = off;
alter function jobcast.tg_jobs__settle() set enable_nestloop = off;
