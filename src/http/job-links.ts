import type { CreatedJob, Job, StoredJob } from "../protocol/job.ts";
import type { CallbackLinks } from "./callbacks/callback-token.ts";

/** A job as it is served: `publicUrl`, without a slash at its end, makes its links absolute. */
export function withLinks(job: StoredJob, publicUrl = ""): Job {
  const self = `${publicUrl}/v1/jobs/${job.id}`;
  return { ...job, links: { self, events: `${self}/events` } };
}

/** The same for whoever may pass the job on to a provider. */
export async function withCallback(
  job: StoredJob,
  callbackLink: CallbackLinks,
  publicUrl?: string,
): Promise<CreatedJob> {
  const { links, ...rest } = withLinks(job, publicUrl);
  return { ...rest, links: { ...links, callback: await callbackLink(job) } };
}
