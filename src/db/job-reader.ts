import type { Pool } from "pg";
import type { StatusEvent } from "../protocol/event.ts";
import { CHANGE_COLUMNS, hasChange, type MaybeChangeRow, toChange } from "./changes.ts";
import { gather } from "./gather.ts";

/** A job as it stands, and its events above the one that was asked for. */
export type JobReplay = {
  readonly ownerId: string;
  readonly version: number;
  readonly status: StatusEvent["status"];
  /** Ascending; at most a page, so ask again above the last one while it is below `version`. */
  readonly events: readonly StatusEvent[];
};

/**
 * How many versions one read gives back for one job, and after how many bytes of what a writer may
 * make as large as it likes it stops: a client that reads slowly keeps its page for minutes.
 */
const PAGE_VERSIONS = 200;
const PAGE_BYTES = 256 * 1_024;

/** Jobs of one query. */
const MAX_READS = 100;

type Read = { readonly jobId: string; readonly after: number | null };

const BYTES = `coalesce(octet_length(h.result::text), 0) + coalesce(octet_length(h.error::text), 0)
  + coalesce(octet_length(h.message), 0) + coalesce(octet_length(h.stage), 0)`;

/** Version by version, so that what lies behind the end of the page is not even looked at. */
const READ_JOBS = `
  select r.read, j.owner_id as job_owner_id, j.version as job_version, j.status as job_status, c.*
  from unnest($1::int[], $2::uuid[], $3::bigint[]) as r (read, job_id, after)
  join jobcast.jobs j on j.id = r.job_id
  left join lateral (
    with recursive page (version, number, bytes) as (
      (
        select h.version, 1, ${BYTES}
        from jobcast.status_history h
        where h.job_id = r.job_id
          and h.version > case when r.after <= j.version then r.after else j.version - 1 end
        order by h.version
        limit 1
      )
      union all
      select h.version, p.number + 1, p.bytes + ${BYTES}
      from page p
      join lateral (
        select h.* from jobcast.status_history h
        where h.job_id = r.job_id and h.version > p.version
        order by h.version
        limit 1
      ) h on true
      where p.number < ${PAGE_VERSIONS} and p.bytes < ${PAGE_BYTES}
    )
    select ${CHANGE_COLUMNS}
    from page p
    join jobcast.status_history h on h.job_id = r.job_id and h.version = p.version
  ) c on true
  order by r.read, c.version`;

type Row = MaybeChangeRow<{
  read: number;
  job_owner_id: string;
  job_version: number;
  job_status: StatusEvent["status"];
}>;

/** Reads job histories for replays, many in one query, and the same for all who ask for the same. */
export function createJobReader(pool: Pool) {
  async function load(reads: readonly Read[]): Promise<(JobReplay | undefined)[]> {
    const { rows } = await pool.query<Row>(READ_JOBS, [
      reads.map((_, index) => index),
      reads.map(({ jobId }) => jobId),
      reads.map(({ after }) => after),
    ]);
    const replays = toReplays(rows);
    return reads.map((_, index) => replays.get(index));
  }
  const read = gather<Read, JobReplay | undefined>(load, {
    maxKeys: MAX_READS,
    nameOf: ({ jobId, after }) => `${jobId} ${after}`,
  });

  return {
    /**
     * @param after the version above which events are wanted; null, or one above the present
     *   version, for the newest event alone
     * @returns undefined when there is no such job
     */
    read: (jobId: string, after: number | null) => read({ jobId, after }),
  };
}

function toReplays(rows: readonly Row[]): Map<number, JobReplay> {
  const replays = new Map<number, JobReplay & { events: StatusEvent[] }>();
  for (const row of rows) {
    let replay = replays.get(row.read);
    if (!replay) {
      replay = {
        ownerId: row.job_owner_id,
        version: row.job_version,
        status: row.job_status,
        events: [],
      };
      replays.set(row.read, replay);
    }
    if (hasChange(row)) replay.events.push(toChange(row).event);
  }
  return replays;
}
