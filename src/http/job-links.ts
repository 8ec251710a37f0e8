import type { JobText } from "../change/job-text.ts";
import type { CallbackLinks } from "./callbacks/callback-token.ts";

/** A job as it is served, as JSON: its links begin with `baseUrl`, which has no slash at its end. */
export function withLinks({ id, json }: JobText, baseUrl: string, callback?: string): string {
  const self = selfLink(id, baseUrl);
  const links = { self, events: `${self}/events`, ...(callback !== undefined && { callback }) };
  return `${json.slice(0, -1)},"links":${JSON.stringify(links)}}`;
}

/** The same for whoever may pass the job on to a provider. */
export async function withCallback(
  job: JobText,
  callbackLink: CallbackLinks,
  baseUrl: string,
): Promise<string> {
  return withLinks(job, baseUrl, await callbackLink(job, baseUrl));
}

export function selfLink(id: string, baseUrl: string): string {
  return `${baseUrl}/v1/jobs/${id}`;
}

/** A JSON array of what is JSON already. */
export function jsonArray(items: readonly string[]): string {
  return `[${items.join(",")}]`;
}
