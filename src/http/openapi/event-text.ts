/** One event of a stream, as its text. */
export type StreamEvent = { readonly event: string; readonly id?: string; readonly data: unknown };

/** A stream as its text, with the `retry:` that comes first. */
export function streamText(events: readonly StreamEvent[]): string {
  const blocks = events.map(({ event, id, data }) =>
    [`event: ${event}`, ...(id ? [`id: ${id}`] : []), `data: ${JSON.stringify(data)}`].join("\n"),
  );
  return ["retry: 2131", ...blocks, ""].join("\n\n");
}
