import type { Request, Response } from "express";
import { JobcastError } from "../../errors.ts";
import type { Batch } from "../../protocol/batch.ts";
import { isFinal } from "../../protocol/status.ts";
import { BatchSubscriber } from "../../stream/batch-subscriber.ts";
import { waitForNews } from "../../stream/long-poll.ts";
import { readForRequest, readPatiently } from "../../stream/patience.ts";
import { type Caller, callerOf, mayReadOwner } from "../auth/caller.ts";
import { clientGone, idOf, NOT_FOUND, waitMsOf } from "./events-request.ts";
import { isReset, type LastVersion, lastVersionOf } from "./last-version.ts";
import { answerHead, answerPoll, type EventsDeps, openStream, type Visit } from "./stream-edge.ts";

/** `GET /v1/batches/{id}/events`: the states of a batch, as SSE or as one long poll. */
export async function batchEvents(req: Request, res: Response, deps: EventsDeps, visit: Visit) {
  const id = idOf(req);
  const last = lastVersionOf(req);
  if (req.method === "HEAD") {
    visibleBatch(await deps.batchReader.read(id), callerOf(res));
    return answerHead(res, visit);
  }
  if (visit.transport === "long-poll") return poll(req, res, deps, id, last);
  return stream(res, deps, visit, id, last);
}

/** @throws {JobcastError} not_found, in the same words for no batch and for somebody else's */
export function visibleBatch(batch: Batch | undefined, caller: Caller): Batch {
  if (batch && mayReadOwner(caller, batch.ownerId)) return batch;
  throw new JobcastError("not_found", NOT_FOUND);
}

async function stream(
  res: Response,
  deps: EventsDeps,
  visit: Visit,
  id: string,
  last: LastVersion,
): Promise<void> {
  const { hub, batchReader, onError } = deps;
  const caller = callerOf(res);
  const read = () => batchReader.read(id);
  const subscriber = new BatchSubscriber((isWanted) => readPatiently(read, isWanted, onError));
  visit.onLeave(hub.subscribe([`batch:${id}`], subscriber));
  const batch = visibleBatch(await readForRequest(read, clientGone(res), onError), caller);
  if (last.after === batch.version && isFinal(batch.status)) {
    res.status(204).end();
    visit.leave();
    return;
  }
  const opened = await openStream(res, deps, visit, caller);
  const sent = isReset(last, batch.version) ? undefined : (last.after ?? 0);
  if (opened) subscriber.begin(opened, batch, sent);
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
  const isNews = (batch: Batch) => batch.version !== last.after;
  const batch = await waitForNews({
    hub,
    topics: [`batch:${id}`],
    waitMs: waitMsOf(req, caller),
    signal: AbortSignal.any([clientGone(res), registry.draining]),
    read: async () => visibleBatch(await batchReader.read(id), caller),
    hasNews: (read) => isNews(read) || isFinal(read.status),
  });
  answerPoll(res, deps, {
    events: isNews(batch) ? [JSON.stringify(batch)] : [],
    cursor: String(batch.version),
    done: isFinal(batch.status),
    isReset: isReset(last, batch.version),
  });
}
