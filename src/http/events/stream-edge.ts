import type { Response } from "express";
import type { PollAnswer } from "../../protocol/poll-answer.ts";
import { EVENT_STREAM_HEADERS } from "../../stream/connection.ts";
import { EventStream } from "../../stream/event-stream.ts";
import type { Hub } from "../../stream/hub.ts";
import type { BatchReader, JobReader, ScopeReader } from "../../stream/ports.ts";
import type { Place, StreamRegistry, Transport } from "../../stream/registry.ts";
import type { Caller } from "../auth/caller.ts";

/** What the events routes work with. */
export type EventsDeps = {
  readonly hub: Hub;
  readonly registry: StreamRegistry;
  readonly jobReader: JobReader;
  readonly scopeReader: ScopeReader;
  readonly batchReader: BatchReader;
  /** Names the database in the cursors of streams over many jobs. */
  readonly epoch: () => string;
  /** Unsent bytes above which a client is cut. */
  readonly bufferBytes: number;
  /** A read failed that will be tried again. */
  readonly onError: (error: unknown) => void;
};

/** One request for events: its place among the open streams, and what to undo when it ends. */
export class Visit {
  readonly transport: Transport;
  readonly place: Place;
  readonly #undo: (() => void)[] = [];
  #isOver = false;

  constructor(transport: Transport, place: Place) {
    this.transport = transport;
    this.place = place;
  }

  onLeave(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** May be called twice: by the end of the stream and by an error. */
  leave(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const undo of this.#undo) undo();
    this.place.release();
  }
}

/** Begins the SSE response. Undefined when the client has gone meanwhile. */
export async function openStream(
  res: Response,
  { registry, bufferBytes }: EventsDeps,
  visit: Visit,
  caller: Caller,
): Promise<EventStream | undefined> {
  const stream = await EventStream.open(res, {
    bufferBytes,
    retryMs: registry.retryMs(),
    onCut: (reason) => registry.countCut(reason),
    onEvents: (kind, count) => registry.countEvents(kind, count),
    onClosed: () => visit.leave(),
  });
  if (stream) visit.place.attend(stream, caller.expiresAt);
  else visit.leave();
  return stream;
}

/** Answers a long poll. */
export function answerPoll(
  res: Response,
  { registry }: EventsDeps,
  { isReset, ...answer }: Omit<PollAnswer, "reset"> & { isReset: boolean },
): void {
  const body: PollAnswer = { ...answer, ...(isReset && { reset: true }) };
  res.json(body);
  registry.countEvents("live", answer.events.length);
}

/** What GET would answer, without its stream: Express hands HEAD to the same handler. */
export function answerHead(res: Response, visit: Visit): void {
  const headers =
    visit.transport === "sse" ? EVENT_STREAM_HEADERS : { "Content-Type": "application/json" };
  res.writeHead(200, headers).end();
  visit.leave();
}
