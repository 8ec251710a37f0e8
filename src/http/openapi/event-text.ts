import { eventText, retryText } from "../../stream/frames.ts";

/** One event of a stream, as its text. */
export type StreamEvent = { readonly event: string; readonly id: string; readonly data: unknown };

/** A stream as its text, with the `retry:` that comes first. */
export function streamText(events: readonly StreamEvent[]): string {
  const texts = events.map(({ event, id, data }) => eventText(event, JSON.stringify(data), id));
  return [retryText(2_131), ...texts].join("");
}
