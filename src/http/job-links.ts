import type { Job, StoredJob } from "../protocol/job.ts";

/** A job as it is served: `publicUrl`, without a slash at its end, makes its links absolute. */
export function withLinks(job: StoredJob, publicUrl = ""): Job {
  const self = `${publicUrl}/v1/jobs/${job.id}`;
  return { ...job, links: { self, events: `${self}/events` } };
}
