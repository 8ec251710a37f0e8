import type { EventText } from "../change/change.ts";
import type { Status } from "../protocol/status.ts";
import { firstRows, hasMore, type Paged } from "./change-page.ts";
import { CLIENT_BYTES, readFirstGroup, withCare } from "./change-values.ts";
import {
  type ChangeRow,
  changeColumns,
  hasChange,
  type MaybeChangeRow,
  STATE_KIND,
  toChange,
} from "./changes.ts";
import { gather } from "./gather.ts";
import type { Query } from "./query.ts";
import { tagOf, versionOf } from "./versions.ts";

/** A job as it stands, and its events above the one that was asked for. */
export type JobReplay = {
  readonly ownerId: string;
  readonly batchId: string | null;
  readonly version: number;
  readonly status: Status;
  /** Of the row that has the version above which was read; null when there is none. */
  readonly tagAfter: string | null;
  /** Ascending; at most a page, so ask again above the last one while it is below `version`. */
  readonly events: readonly EventText[];
};

/** Versions of one job in one answer, and bytes of all the answers of one query. */
const PAGE_VERSIONS = 200;
const PAGE_BYTES = 2 * 1_024 * 1_024;

/** Jobs of one query. */
const MAX_READS = 200;

type Read = { readonly jobId: string; readonly after: number | null };

/** No version: what a first connect asks for is the newest event alone. */
const NONE = -1;

/** Of a job without a history the present version is the job itself. */
const TAG_AFTER = `coalesce(
  (select ${tagOf("a.occurred_at")} from jobcast.status_history a
   where a.job_id = r.job_id and a.version = r.after),
  case when r.after = j.version then ${tagOf("j.updated_at")} end)`;

/** Who asks for the newest alone asks how the job stands. */
const KIND = `case when r.after between 0 and j.version then coalesce(h.event_name, ${STATE_KIND}) else ${STATE_KIND} end`;

function readJobs(isCareful: boolean): string {
  return firstRows(
    `select r.read, j.owner_id as job_owner_id, j.batch_id as job_batch_id, j.version as job_version, j.status as job_status,
       ${TAG_AFTER} as tag_after, c.*
     from unnest($1::int[], $2::uuid[], $3::bigint[]) as r (read, job_id, after)
     join jobcast.jobs j on j.id = r.job_id
     left join lateral (
       select ${changeColumns(isCareful, KIND)}
       from jobcast.status_history h
       where h.job_id = r.job_id
         and h.version > case when r.after between 0 and j.version then r.after else j.version - 1 end
       order by h.version
       limit ${PAGE_VERSIONS}
     ) c on true`,
    "read, version",
    PAGE_BYTES,
  );
}

/** The present version of a job that has no history. */
function readState(isCareful: boolean): string {
  return `
    select ${changeColumns(isCareful)}
    from jobcast.jobs j cross join lateral (${versionOf("j.version")}) h
    where j.id = $1`;
}

type Row = MaybeChangeRow<
  Paged & {
    read: number;
    job_owner_id: string;
    job_batch_id: string | null;
    job_version: number;
    job_status: Status;
    tag_after: string | null;
  }
>;

/** What a stream of one job reads with. A read begins after it was asked for. */
export type JobReader = ReturnType<typeof createJobReader>;

/** Reads job histories for replays, many in one query, and the same for all who ask for the same. */
export function createJobReader(query: Query) {
  async function load(reads: readonly Read[]): Promise<readonly (JobReplay | undefined)[]> {
    const values = [
      reads.map((_, index) => index),
      reads.map(({ jobId }) => jobId),
      reads.map(({ after }) => after ?? NONE),
    ];
    const rows = await withCare((isCareful) => query<Row>(readJobs(isCareful), values));
    const byRead: Row[][] = reads.slice(0, countAnswered(rows, reads.length)).map(() => []);
    for (const row of rows) byRead[row.read]?.push(row);
    return toReplays(reads, byRead);
  }

  async function toReplays(
    reads: readonly Read[],
    rowsOfReads: readonly Row[][],
  ): Promise<(JobReplay | undefined)[]> {
    const replays: (JobReplay | undefined)[] = [];
    let bytes = 0;
    for (const [index, rows] of rowsOfReads.entries()) {
      if (bytes > PAGE_BYTES) break; // the others are asked for again
      const { whole } = await readFirstGroup(
        await changesOf(reads[index], rows),
        query,
        CLIENT_BYTES,
      );
      bytes += whole.reduce((sum, row) => sum + row.bytes, 0);
      replays.push(toReplay(rows, whole));
    }
    return replays;
  }

  /** The newest event is that of the job itself where it has no history. */
  async function changesOf(
    read: Read | undefined,
    rows: readonly Row[],
  ): Promise<readonly ChangeRow[]> {
    const changes = rows.filter(hasChange);
    const [job] = rows;
    const isForNewest = read?.after === null || (read?.after ?? 0) > (job?.job_version ?? 0);
    if (!read || !job || changes.length > 0 || !isForNewest) return changes;
    return withCare((isCareful) => query<ChangeRow>(readState(isCareful), [read.jobId]));
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

/** Behind the last one that has a row, all were cut off, or none of them is a job. */
function countAnswered(rows: readonly Row[], asked: number): number {
  const last = rows.at(-1);
  return last && hasMore(rows) ? last.read + 1 : asked;
}

function toReplay(rows: readonly Row[], whole: readonly ChangeRow[]): JobReplay | undefined {
  const [first] = rows;
  return (
    first && {
      ownerId: first.job_owner_id,
      batchId: first.job_batch_id,
      version: first.job_version,
      status: first.job_status,
      tagAfter: first.tag_after,
      events: whole.map(toChange),
    }
  );
}
