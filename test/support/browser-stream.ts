import { randomUUID } from "node:crypto";
import type { Page } from "playwright-core";
import { createEventQueue, type EventQueue } from "./event-queue.ts";
import type { StreamEvent } from "./event-stream.ts";

export type BrowserStream = EventQueue & {
  /** As `EventSource.readyState`: 0 connecting, 1 open, 2 closed. */
  readyState(): Promise<number>;
  /** Calls `EventSource.close()`. */
  close(): Promise<void>;
};

export type BrowserStreamOptions = {
  /** Event types to listen to. Default: those of the service, and "message". */
  types?: readonly string[];
  withCredentials?: boolean;
};

const TYPES = ["message", "status", "batch", "ping", "reset", "close"];

/**
 * Opens an `EventSource` in the page and hands its events to the test. `open` and `error`, which
 * the browser itself fires, come as events with these types and the readyState ("0", "1" or "2")
 * as data; a server's event that is called "error" has the data that the server sent.
 */
export async function openBrowserStream(
  page: Page,
  url: string,
  { types = TYPES, withCredentials = false }: BrowserStreamOptions = {},
): Promise<BrowserStream> {
  const queue = createEventQueue(() => undefined);
  const name = `stream_${randomUUID().replaceAll("-", "")}`;
  await page.exposeFunction(`${name}_report`, (event: StreamEvent) => queue.add(event));
  // Text, and not a function, because the project's types know nothing of a DOM.
  await page.evaluate(`{
    const source = new EventSource(${JSON.stringify(url)}, { withCredentials: ${withCredentials} });
    const report = ({ type, data, lastEventId }) => ${name}_report({
      type, data: data ?? String(source.readyState), lastEventId: lastEventId ?? "",
    });
    for (const type of ${JSON.stringify(["open", "error", ...types])}) {
      source.addEventListener(type, report);
    }
    globalThis.${name} = source;
  }`);
  return {
    events: queue.events,
    next: queue.next,
    take: queue.take,
    readyState: () => page.evaluate<number>(`${name}.readyState`),
    close: () => page.evaluate<void>(`${name}.close()`),
  };
}
