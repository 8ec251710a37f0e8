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

/** How many versions one read gives back for one job. */
const REPLAY_PAGE = 200;

type Read = { readonly jobId: string; readonly after: number | null };

const READ_JOBS = `
  select r.read, j.owner_id as job_owner_id, j.version as job_version, j.status as job_status, c.*
  from unnest($1::int[], $2::uuid[], $3::bigint[]) as r (read, job_id, after)
  join jobcast.jobs j on j.id = r.job_id
  left join lateral (
    select ${CHANGE_COLUMNS}
    from jobcast.status_history h
    where h.job_id = r.job_id
      and h.version > case when r.after <= j.version then r.after else j.version - 1 end
    order by h.version
    limit ${REPLAY_PAGE}
  ) c on true
  order by r.read, c.version`;

type Row = MaybeChangeRow<{
  read: number;
  job_owner_id: string;
  job_version: number;
  job_status: StatusEvent["status"];
}>;

/** Reads job histories for replays, many in one query. */
export function createJobReader(pool: Pool) {
  const read = gather<Read, JobReplay | undefined>(async (reads) => {
    const { rows } = await pool.query<Row>(READ_JOBS, [
      reads.map((_, index) => index),
      reads.map(({ jobId }) => jobId),
      reads.map(({ after }) => after),
    ]);
    const replays = toReplays(rows);
    return reads.map((_, index) => replays.get(index));
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
