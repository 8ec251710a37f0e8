-- The schema, and the small pure functions that the tables' defaults and constraints use.

create function jobcast.uuid_v7() returns uuid
language sql volatile parallel safe
set search_path = pg_catalog, pg_temp
as $$
  -- RFC 9562, 5.7: 48 bits of Unix milliseconds, version 7, the rest random.
  -- PostgreSQL has uuidv7() only from 18 on; gen_random_uuid() already sets the variant.
  select encode(
    set_bit(
      set_bit(
        overlay(
          uuid_send(gen_random_uuid())
          placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
          from 1 for 6
        ),
        52, 1
      ),
      53, 1
    ),
    'hex'
  )::uuid
$$;

create function jobcast.is_counts(counts jsonb) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select counts is null or (
    jsonb_typeof(counts) = 'object'
    and counts ?& array['total', 'completed', 'failed']
    and counts - array['total', 'completed', 'failed'] = '{}'
    and jsonb_typeof(counts -> 'total') = 'number'
    and jsonb_typeof(counts -> 'completed') = 'number'
    and jsonb_typeof(counts -> 'failed') = 'number'
  )
$$;

create function jobcast.is_error(error jsonb) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select error is null or (
    jsonb_typeof(error) = 'object'
    and error ?& array['code', 'message']
    and error - array['code', 'message'] = '{}'
    and jsonb_typeof(error -> 'code') = 'string'
    and jsonb_typeof(error -> 'message') = 'string'
  )
$$;

create function jobcast.is_final(status text) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select status in ('completed', 'failed', 'cancelled', 'timeout')
$$;

create function jobcast.status_rank(status text) returns integer
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case status when 'pending' then 0 when 'queued' then 1 when 'processing' then 2 else 3 end
$$;

comment on function jobcast.status_rank(text) is
  'A status may only be followed by one of the same or a higher rank; rank 3 is final.';
