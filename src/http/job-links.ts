import type { JobText } from "../protocol/job.ts";
import type { CallbackLinks } from "./callbacks/callback-token.ts";

/** A job as it is served, as JSON: `publicUrl`, without a slash at its end, makes its links absolute. */
export function withLinks({ id, json }: JobText, publicUrl = "", callback?: string): string {
  const self = selfLink(id, publicUrl);
  const links = { self, events: `${self}/events`, ...(callback !== undefined && { callback }) };
  return `${json.slice(0, -1)},"links":${JSON.stringify(links)}}`;
}

/** The same for whoever may pass the job on to a provider. */
export async function withCallback(
  job: JobText,
  callbackLink: CallbackLinks,
  publicUrl?: string,
): Promise<string> {
  return withLinks(job, publicUrl, await callbackLink(job));
}

export function selfLink(id: string, publicUrl = ""): string {
  return `${publicUrl}/v1/jobs/${id}`;
}

/** A JSON array of what is JSON already. */
export function jsonArray(items: readonly string[]): string {
  return `[${items.join(",")}]`;
}
