/*
 * Where a version of a job is: in its history, or in the job itself where that is gone.
 */

/**
 * Tells a row from any other of the same job and version: the lower three bytes of its moment, in
 * microseconds. A dump keeps them, whatever it is restored into, and infinity has them too.
 */
export function tagOf(moment: string): string {
  return `right(encode(timestamptz_send(${moment}), 'hex'), 6)`;
}

/**
 * What is needed of a version: of status_history, and of the job itself where its history is gone.
 * By its source the present version of such a job was written by nobody in particular, long ago.
 */
const VERSION_COLUMNS: Readonly<Record<string, string>> = {
  job_id: "j.id",
  version: "j.version",
  attempt: "j.attempt",
  status: "j.status",
  progress: "j.progress",
  stage: "j.stage",
  message: "j.message",
  counts: "j.counts",
  result: "j.result",
  error: "j.error",
  estimated_seconds_remaining: "null::integer",
  source: "'sql'",
  event_name: "null::text",
  event_data: "null::jsonb",
  xid: "'3'::xid8",
  occurred_at: "j.updated_at",
  bytes: "j.bytes",
};

/** Rows of the history `h`, with the columns that a change is made of. */
export const FROM_HISTORY = `select ${Object.keys(VERSION_COLUMNS).map((name) => `h.${name}`)}
  from jobcast.status_history h`;
const FROM_JOB = `select ${Object.entries(VERSION_COLUMNS).map(([name, value]) => `${value} as ${name}`)}`;

/**
 * The rows of one version of a job, be it in the history or, if it is the present one, in the job.
 * @param version SQL; `j` is the job
 */
export function versionOf(version: string): string {
  return `
    ${FROM_HISTORY} where h.job_id = j.id and h.version = ${version}
    union all
    ${FROM_JOB} where j.version = ${version} and not exists (
      select from jobcast.status_history h where h.job_id = j.id and h.version = ${version}
    )`;
}

/** The newest version of the job `j` that a snapshot saw. */
export function versionSeenBy(snapshot: string): string {
  return `
    (${FROM_HISTORY}
      where h.job_id = j.id and (
        pg_visible_in_snapshot(h.xid, ${snapshot}) or h.xid >= pg_snapshot_xmax(pg_current_snapshot())
      )
      order by h.version desc
      limit 1)
    union all
    ${FROM_JOB} where not exists (select from jobcast.status_history h where h.job_id = j.id)`;
}
