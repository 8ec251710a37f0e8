import type { Request, Response } from "express";
import { JobcastError } from "../../errors.ts";
import { isFinal } from "../../protocol/status.ts";
import { hasSeenEnd, JobSubscriber } from "../../stream/job-subscriber.ts";
import { waitForNews } from "../../stream/long-poll.ts";
import { readForRequest, readPatiently } from "../../stream/patience.ts";
import type { JobReplay } from "../../stream/ports.ts";
import { type Caller, callerOf, mayRead } from "../auth/caller.ts";
import { clientGone, idOf, NOT_FOUND, waitMsOf } from "./events-request.ts";
import { isReset, type LastVersion, lastVersionOf } from "./last-version.ts";
import { answerHead, answerPoll, type EventsDeps, openStream, type Visit } from "./stream-edge.ts";

/** `GET /v1/jobs/{id}/events`: one job, as SSE or as one long poll. */
export async function jobEvents(req: Request, res: Response, deps: EventsDeps, visit: Visit) {
  const caller = callerOf(res);
  const jobId = idOf(req);
  const last = lastVersionOf(req);
  if (req.method === "HEAD") {
    visible(await deps.jobReader.read(jobId, null), jobId, caller);
    return answerHead(res, visit);
  }
  if (visit.transport === "long-poll") return poll(req, res, deps, jobId, last);
  return stream(res, deps, visit, jobId, last);
}

async function stream(
  res: Response,
  deps: EventsDeps,
  visit: Visit,
  jobId: string,
  last: LastVersion,
): Promise<void> {
  const { hub, registry, jobReader, onError } = deps;
  const caller = callerOf(res);
  const subscriber = new JobSubscriber(
    (after, isWanted) => readPatiently(() => jobReader.read(jobId, after), isWanted, onError),
    registry.parking,
  );
  visit.onLeave(hub.subscribe([`job:${jobId}`], subscriber));
  visit.onLeave(() => subscriber.leave());
  const read = () => jobReader.read(jobId, last.after);
  const replay = visible(await readForRequest(read, clientGone(res), onError), jobId, caller);
  if (hasSeenEnd(replay, last.after)) {
    // An EventSource reconnects for ever unless it is told so (HTML, 9.2.1).
    res.status(204).end();
    visit.leave();
    return;
  }
  const opened = await openStream(res, deps, visit, caller);
  if (opened) subscriber.begin(opened, replay, isReset(last, replay.version));
}

async function poll(
  req: Request,
  res: Response,
  deps: EventsDeps,
  jobId: string,
  last: LastVersion,
): Promise<void> {
  const { hub, jobReader, registry } = deps;
  const caller = callerOf(res);
  const replay = await waitForNews({
    hub,
    topics: [`job:${jobId}`],
    waitMs: waitMsOf(req, caller),
    signal: AbortSignal.any([clientGone(res), registry.draining]),
    read: async () => visible(await jobReader.read(jobId, last.after), jobId, caller),
    hasNews: ({ events, status }) => events.length > 0 || isFinal(status),
  });
  const newest = replay.events.at(-1)?.version ?? last.after ?? replay.version;
  answerPoll(res, deps, {
    events: replay.events.map(({ json }) => json),
    cursor: String(newest),
    done: newest === replay.version && isFinal(replay.status),
    isReset: isReset(last, replay.version),
  });
}

/** @throws {JobcastError} not_found, in the same words for no job and for somebody else's */
function visible(replay: JobReplay | undefined, jobId: string, caller: Caller): JobReplay {
  if (replay && mayRead(caller, { id: jobId, ownerId: replay.ownerId })) return replay;
  throw new JobcastError("not_found", NOT_FOUND);
}
