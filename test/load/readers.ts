/**
 * A process of its own that holds many streams open and reads them, so that the clients do not
 * take their time from the server that is measured. Started by fork; told by one message.
 */
import { get } from "node:http";

/** `streams` are paths; each is read until `events` status events have come. */
export type Order = {
  readonly url: string;
  readonly token: string;
  readonly streams: readonly string[];
  readonly events: number;
};

/** `open` when all streams are; `done` with how late each event was, in milliseconds, sorted. */
export type Report = { readonly open: number } | { readonly lateness: readonly number[] };

const report = (message: Report) => process.send?.(message);

process.once("message", (order: Order) => void read(order));

async function read({ url, token, streams, events }: Order): Promise<void> {
  const lateness: number[] = [];
  let begun = 0;
  const all = streams.map((path) =>
    readStream(
      new URL(path, url),
      token,
      events + 1,
      (occurredAt) => {
        lateness.push(Date.now() - Date.parse(occurredAt));
      },
      () => {
        begun += 1;
        if (begun === streams.length) report({ open: begun });
      },
    ),
  );
  await Promise.all(all);
  report({ lateness: lateness.sort((a, b) => a - b) });
  process.disconnect();
}

/** The first event is the state that was found; it counts for the opening and not for lateness. */
function readStream(
  url: URL,
  token: string,
  expected: number,
  onEvent: (occurredAt: string) => void,
  onOpen: () => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, headers: { authorization: `Bearer ${token}` } });
    request.on("error", reject);
    request.on("response", (response) => {
      let seen = 0;
      let rest = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        const blocks = (rest + chunk).split("\n\n");
        rest = blocks.pop() ?? "";
        for (const block of blocks) {
          const occurredAt = /"occurredAt":"([^"]+)"/.exec(block)?.[1];
          if (occurredAt === undefined) continue;
          seen += 1;
          if (seen === 1) onOpen();
          else onEvent(occurredAt);
          if (seen === expected) {
            resolve();
            request.destroy();
          }
        }
      });
    });
  });
}
