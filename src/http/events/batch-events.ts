import type { Request, Response } from "express";
import type { BatchText } from "../../change/batch-text.ts";
import { formatEventId } from "../../change/event-id.ts";
import type { BatchState } from "../../db/batch-reader.ts";
import { JobcastError } from "../../errors.ts";
import { isFinal } from "../../protocol/status.ts";
import { BatchSubscriber } from "../../stream/batch-subscriber.ts";
import { waitForNews } from "../../stream/long-poll.ts";
import type { Admission } from "../../stream/registry.ts";
import { readForRequest, readWithRetry } from "../../stream/retry.ts";
import { mayReadBatch } from "../access.ts";
import { type Caller, callerOf } from "../auth/caller.ts";
import { parseId } from "../validate.ts";
import { clientGone, NOT_FOUND, waitMsOf } from "./events-request.ts";
import { idOfLast, isUnknown, type LastVersion, lastVersionOf } from "./last-version.ts";
import { answerHead, answerPoll, answerSeen, type EventsDeps, openStream } from "./stream-edge.ts";

/** `GET /v1/batches/{id}/events`: the states of a batch, as SSE or as one long poll. */
export async function batchEvents(
  req: Request,
  res: Response,
  deps: EventsDeps,
  admission: Admission,
) {
  const id = parseId(req);
  const last = lastVersionOf(req);
  if (req.method === "HEAD") {
    visible(await deps.batchReader.read(id), callerOf(res));
    return answerHead(res, admission);
  }
  if (admission.transport === "long-poll") return poll(req, res, deps, id, last);
  return stream(res, deps, admission, id, last);
}

/** @throws {JobcastError} not_found, in the same words for no batch and for somebody else's */
export function visibleBatch(batch: BatchText | undefined, caller: Caller): BatchText {
  if (batch && mayReadBatch(caller, batch)) return batch;
  throw new JobcastError("not_found", NOT_FOUND);
}

function visible(state: BatchState | undefined, caller: Caller): BatchState {
  if (state && visibleBatch(state.batch, caller)) return state;
  throw new JobcastError("not_found", NOT_FOUND);
}

async function stream(
  res: Response,
  deps: EventsDeps,
  admission: Admission,
  id: string,
  last: LastVersion,
): Promise<void> {
  const { hub, batchReader, onError } = deps;
  const caller = callerOf(res);
  const read = () => batchReader.read(id);
  const subscriber = new BatchSubscriber(id, (isWanted) => readWithRetry(read, isWanted, onError));
  admission.onRelease(hub.subscribe([`batch:${id}`], subscriber));
  const state = visible(await readForRequest(read, clientGone(res), onError), caller);
  const isReset = isUnknownTo(state, last);
  const isPresent = last.after === state.batch.version;
  if (!isReset && isPresent && isFinal(state.batch.status)) return answerSeen(res, admission);
  const lastId = isReset ? undefined : isPresent ? state.id : idOfLast(last, null);
  const opened = await openStream(res, deps, admission, lastId);
  if (!opened) return;
  subscriber.begin(opened, state, isReset ? undefined : (last.after ?? 0));
  opened.greet(deps.registry.heartbeat());
}

function isUnknownTo({ batch, id }: BatchState, last: LastVersion): boolean {
  const { after, tag = null } = last;
  if (isUnknown(last, batch.version, tag)) return true;
  // Of the versions before there is nothing to compare with, and nothing that would be missed.
  return after === batch.version && tag !== null && formatEventId(after, tag) !== id;
}

async function poll(
  req: Request,
  res: Response,
  deps: EventsDeps,
  id: string,
  last: LastVersion,
): Promise<void> {
  const { hub, batchReader, registry } = deps;
  const caller = callerOf(res);
  const isNews = (state: BatchState) =>
    state.batch.version !== last.after || isUnknownTo(state, last);
  const state = await waitForNews({
    hub,
    topics: [`batch:${id}`],
    waitMs: waitMsOf(req, caller),
    signal: AbortSignal.any([clientGone(res), registry.draining]),
    read: async () => visible(await batchReader.read(id), caller),
    hasNews: (read) => isNews(read) || isFinal(read.batch.status),
  });
  answerPoll(res, deps, {
    events: isNews(state) ? [state.batch.json] : [],
    cursor: state.id,
    done: isFinal(state.batch.status),
    isReset: isUnknownTo(state, last),
  });
}
