import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import { DEFAULT_DEADLINE_MS, within } from "./deadline.ts";
import { createEventQueue, type EventQueue } from "./event-queue.ts";
import { EventStreamParser } from "./event-stream.ts";

export type StreamOptions = {
  /** Where the server is, for example "http://127.0.0.1:3000"; `path` is resolved against it. */
  url: string | URL;
  path?: string;
  headers?: Record<string, string>;
  /** Sent as `Authorization: Bearer`. */
  token?: string;
  /** Sent as `Last-Event-ID`, and seeds the last event id as a reconnecting browser does. */
  lastEventId?: string;
  /** How long to wait for the head of the answer. Default 10 s. */
  deadlineMs?: number;
};

export type StreamClient = EventQueue & {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** How the answer ended: "complete", "cut" in the middle, "closed" by this side; or not yet. */
  readonly ending: "complete" | "cut" | "closed" | undefined;
  /** Resolves when the answer has ended, however it did; it never rejects. */
  readonly ended: Promise<void>;
  /** The newest `retry:` in milliseconds. */
  readonly retry: number | undefined;
  /** What a browser would send as Last-Event-ID if it reconnected at this moment. */
  readonly lastEventId: string;
  /** How many blocks moved the last event id without data; a server that does it loses events. */
  readonly idOnlyBlocks: number;
  /** Everything else that the parser recorded. */
  readonly parser: EventStreamParser;
  /** The whole body as text, once it has ended: for answers that are no stream, such as problems. */
  body(deadlineMs?: number): Promise<string>;
  /** Stops reading, so that the kernel's buffers fill up (some megabytes) and then the server's. */
  pause(): void;
  resume(): void;
  /** Leaves as a closed tab does; resolves when the socket is closed. */
  close(): Promise<void>;
};

/**
 * Opens one stream on a TCP connection of its own and collects what it sends, whatever the status.
 *
 * @throws {DeadlineError} when no head of an answer comes in time.
 * @throws the error of the socket when there is no connection or it breaks before the answer.
 */
export async function openStream(options: StreamOptions): Promise<StreamClient> {
  const response = await sendRequest(options);
  const chunks: Buffer[] = [];
  let ending: StreamClient["ending"];
  const endings = { complete: "ended", cut: "was cut off", closed: "was closed by the test" };

  const queue = createEventQueue(() => (ending === undefined ? undefined : endings[ending]));
  const parser = new EventStreamParser(queue.add, options.lastEventId);
  const ended = new Promise<void>((resolve) => {
    response.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      parser.push(chunk);
    });
    // A reset comes as an error; the close that follows every ending tells the same, and always.
    response.on("error", () => undefined);
    response.on("close", () => {
      ending ??= response.complete ? "complete" : "cut";
      queue.wake();
      resolve();
    });
  });

  return {
    events: queue.events,
    next: queue.next,
    take: queue.take,
    status: response.statusCode ?? 0,
    headers: response.headers,
    ended,
    parser,
    get ending() {
      return ending;
    },
    get retry() {
      return parser.retries.at(-1);
    },
    get lastEventId() {
      return parser.lastEventId;
    },
    get idOnlyBlocks() {
      return parser.idOnlyBlocks.length;
    },
    async body(deadlineMs = DEFAULT_DEADLINE_MS) {
      await within(ended, deadlineMs, "the end of the body");
      return Buffer.concat(chunks).toString("utf8");
    },
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    close() {
      ending ??= "closed";
      response.destroy();
      return ended;
    },
  };
}

async function sendRequest(options: StreamOptions): Promise<IncomingMessage> {
  const { url, path = "", headers = {}, token, lastEventId } = options;
  const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
  const sent = request(new URL(path, url), {
    // One agent for one request: no stream ever gets a socket that another one has used.
    agent: new Agent({ keepAlive: false }),
    headers: {
      accept: "text/event-stream",
      "cache-control": "no-store",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }),
      ...headers,
    },
  });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    sent.once("response", resolve);
    // Kept for the life of the request: a socket may report its reset here after the answer began.
    sent.on("error", reject);
  });
  sent.end();
  try {
    return await within(answered, deadlineMs, `an answer to GET ${path || String(url)}`);
  } catch (error) {
    sent.destroy();
    throw error;
  }
}
