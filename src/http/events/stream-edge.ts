import type { Response } from "express";
import type { BatchReader } from "../../db/batch-reader.ts";
import type { FindOwners } from "../../db/job-owners.ts";
import type { JobReader } from "../../db/job-reader.ts";
import type { Presence } from "../../db/presence.ts";
import type { ScopeReader } from "../../db/scope-reader.ts";
import { EVENT_STREAM_HEADERS } from "../../stream/connection.ts";
import { EventStream } from "../../stream/event-stream.ts";
import type { Hub } from "../../stream/hub.ts";
import type { Admission, StreamRegistry } from "../../stream/registry.ts";
import { sendJson } from "../answers.ts";
import { callerOf } from "../auth/caller.ts";
import { jsonArray } from "../job-links.ts";

/** What the events routes work with. */
export type EventsDeps = {
  readonly hub: Hub;
  readonly registry: StreamRegistry;
  readonly jobReader: JobReader;
  readonly scopeReader: ScopeReader;
  readonly batchReader: BatchReader;
  readonly findOwners: FindOwners;
  /** Names the database in the cursors of streams over many jobs. */
  readonly epoch: () => string;
  /** Who watches; undefined where nobody counts. */
  readonly presence?: Pick<Presence, "join"> | undefined;
  /** Unsent bytes above which a client is cut. */
  readonly bufferBytes: number;
  /** A read failed that will be tried again. */
  readonly onError: (error: unknown) => void;
  /** Something of ours failed, and a stream with it. */
  readonly onFailure: (error: unknown) => void;
};

/**
 * Begins the SSE response. Undefined when the client has gone meanwhile.
 * @param lastId the id that the client came with, if it holds
 */
export async function openStream(
  res: Response,
  { registry, bufferBytes, onFailure }: EventsDeps,
  admission: Admission,
  lastId: string | undefined,
): Promise<EventStream | undefined> {
  const stream = await EventStream.open(res, {
    bufferBytes,
    unsent: registry.unsent,
    retryMs: registry.retryMs(),
    lastId,
    onCut: (reason) => registry.countCut(reason),
    onError: onFailure,
    onEvents: (kind, count) => registry.countEvents(kind, count),
    onClosed: () => admission.release(),
  });
  if (stream) admission.attend(stream, callerOf(res));
  else admission.release();
  return stream;
}

/**
 * The client has seen the end, and stays away: an `EventSource` comes back for ever unless it is
 * told so (HTML, 9.2.1). The connection ends as that of a stream does.
 */
export function answerSeen(res: Response, admission: Admission): void {
  res.set("Connection", "close").status(204).end();
  admission.release();
}

/** What a long poll found, its events as JSON. */
export type PollResult = {
  readonly events: readonly string[];
  readonly cursor: string;
  readonly done: boolean;
  readonly isReset: boolean;
};

/** Answers a long poll. */
export function answerPoll(
  res: Response,
  { registry }: EventsDeps,
  { events, cursor, done, isReset }: PollResult,
): void {
  const rest = JSON.stringify({ cursor, done, ...(isReset && { reset: true }) });
  sendJson(res, `{"events":${jsonArray(events)},${rest.slice(1)}`);
  registry.countEvents("live", events.length);
}

/** What GET would answer, without its stream: Express hands HEAD to the same handler. */
export function answerHead(res: Response, admission: Admission): void {
  const headers =
    admission.transport === "sse" ? EVENT_STREAM_HEADERS : { "Content-Type": "application/json" };
  res.writeHead(200, headers).end();
  admission.release();
}
