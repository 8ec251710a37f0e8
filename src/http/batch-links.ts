import type { BatchText } from "../change/batch-text.ts";

export function batchLink(id: string, baseUrl: string): string {
  return `${baseUrl}/v1/batches/${id}`;
}

/** As it is served, as JSON. */
export function withBatchLinks({ id, json: batch }: BatchText, baseUrl: string): string {
  const self = batchLink(id, baseUrl);
  const links = { self, events: `${self}/events`, jobs: `${baseUrl}/v1/jobs?batchId=${id}` };
  return `${batch.slice(0, -1)},"links":${JSON.stringify(links)}}`;
}
