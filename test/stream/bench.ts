import type { ServerResponse } from "node:http";
import type { Change } from "../../src/change/change.ts";
import { formatEventId } from "../../src/change/event-id.ts";
import type { StatusEvent } from "../../src/protocol/event.ts";
import {
  type CutReason,
  EventStream,
  type EventStreamOptions,
} from "../../src/stream/event-stream.ts";
import { Unsent } from "../../src/stream/unsent.ts";
import { serveHttp } from "../support/http-fixture.ts";
import { createSignal } from "../support/signal.ts";
import { openStream, type StreamClient } from "../support/stream-client.ts";

/** One stream with both its ends: what the server sends to, and who reads it. */
export type Bench = {
  readonly stream: EventStream;
  readonly client: StreamClient;
  readonly res: ServerResponse;
  readonly cuts: readonly CutReason[];
  /** Resolves when the server holds nothing of the stream any more. */
  readonly closed: Promise<void>;
  close(): Promise<void>;
};

/**
 * Opens a stream over a real socket, without the service around it.
 * @param prepare what is done to the response before that
 */
export async function openBench(
  options: Partial<EventStreamOptions> = {},
  prepare: (res: ServerResponse) => void = () => undefined,
): Promise<Bench> {
  const arrival = createSignal<ServerResponse>();
  const closed = createSignal();
  const cuts: CutReason[] = [];
  const opened = arrival.promise.then(async (res) => {
    const stream = await EventStream.open(res, {
      bufferBytes: 1_048_576,
      unsent: new Unsent(Number.POSITIVE_INFINITY),
      retryMs: 100,
      lastId: undefined,
      onError: (error) => {
        throw error;
      },
      ...options,
      onCut: (reason) => void cuts.push(reason),
      onEvents: () => undefined,
      onClosed: () => closed.resolve(),
    });
    if (!stream) throw new Error("the client has gone");
    return stream;
  });
  const fixture = await serveHttp((_req, res) => {
    prepare(res);
    arrival.resolve(res);
  });
  const [client, stream] = await Promise.all([openStream({ url: fixture.url }), opened]);
  let closing: Promise<void> | undefined;
  return {
    stream,
    client,
    res: await arrival.promise,
    cuts,
    closed: closed.promise,
    async close() {
      closing ??= client.close().then(() => fixture.close());
      await closing;
    },
  };
}

export const JOB = "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b";

/** A change as the feed hands it out. */
export function change(version: number, event: Partial<StatusEvent> = {}, xid = version): Change {
  const whole: StatusEvent = {
    jobId: JOB,
    version,
    attempt: 1,
    status: "processing",
    progress: 0,
    stage: null,
    message: null,
    counts: null,
    result: null,
    error: null,
    batchId: null,
    estimatedSecondsRemaining: null,
    source: "sql",
    occurredAt: "2026-01-01T00:00:00.000Z",
    type: "image",
    title: null,
    metadata: null,
    ...event,
  };
  const { jobId, status, batchId, type } = whole;
  const json = JSON.stringify(whole);
  const id = formatEventId(version, "abcdef");
  return { kind: "status", ownerId: "alice", xid, jobId, version, id, status, batchId, type, json };
}
