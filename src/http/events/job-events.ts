import type { Request, Response } from "express";
import type { JobReader, JobReplay } from "../../db/job-reader.ts";
import { JobcastError } from "../../errors.ts";
import { isFinal } from "../../protocol/status.ts";
import { hasHole, JobSubscriber } from "../../stream/job-subscriber.ts";
import { waitForNews } from "../../stream/long-poll.ts";
import type { Admission } from "../../stream/registry.ts";
import { readForRequest, readWithRetry } from "../../stream/retry.ts";
import { mayRead } from "../access.ts";
import { type Caller, callerOf } from "../auth/caller.ts";
import { parseId } from "../validate.ts";
import { clientGone, NOT_FOUND, waitMsOf } from "./events-request.ts";
import { idOfLast, isUnknown, type LastVersion, lastVersionOf } from "./last-version.ts";
import { answerHead, answerPoll, answerSeen, type EventsDeps, openStream } from "./stream-edge.ts";

/** `GET /v1/jobs/{id}/events`: one job, as SSE or as one long poll. */
export async function jobEvents(
  req: Request,
  res: Response,
  deps: EventsDeps,
  admission: Admission,
) {
  const caller = callerOf(res);
  const jobId = parseId(req);
  const last = lastVersionOf(req);
  if (req.method === "HEAD") {
    visible(await deps.jobReader.read(jobId, null), jobId, caller);
    return answerHead(res, admission);
  }
  if (admission.transport === "long-poll") return poll(req, res, deps, admission, jobId, last);
  return stream(res, deps, admission, jobId, last);
}

async function stream(
  res: Response,
  deps: EventsDeps,
  admission: Admission,
  jobId: string,
  last: LastVersion,
): Promise<void> {
  const { hub, registry, jobReader, presence, onError } = deps;
  const caller = callerOf(res);
  const subscriber = new JobSubscriber(
    jobId,
    (after, isWanted) => readWithRetry(() => jobReader.read(jobId, after), isWanted, onError),
    registry.parking,
  );
  admission.onRelease(hub.subscribe([`job:${jobId}`], subscriber));
  admission.onRelease(() => subscriber.leave());
  const { replay, isReset } = await readForRequest(
    () => readMissed(jobReader, jobId, last, caller),
    clientGone(res),
    onError,
  );
  if (!isReset && hasSeenEnd(replay, last.after)) {
    return answerSeen(res, admission);
  }
  if (presence) admission.onRelease(presence.join(jobId, caller.ownerId));
  const lastId = isReset ? undefined : idOfLast(last, replay.tagAfter);
  const opened = await openStream(res, deps, admission, lastId);
  if (!opened) return;
  subscriber.begin(opened, replay, isReset);
  opened.greet(registry.heartbeat());
}

/** Whether a client whose last version is `after` has seen the end: it gets 204 and stays away. */
function hasSeenEnd({ version, status }: JobReplay, after: number | null): boolean {
  return after === version && isFinal(status);
}

type Missed = { readonly replay: JobReplay; readonly isReset: boolean };

/** What the client missed; or the present state, if its last id is no place to go on from. */
async function readMissed(
  jobReader: JobReader,
  jobId: string,
  last: LastVersion,
  caller: Caller,
): Promise<Missed> {
  const replay = visible(await jobReader.read(jobId, last.after), jobId, caller);
  const isReset =
    isUnknown(last, replay.version, replay.tagAfter) ||
    (last.after !== null && hasHole(replay, last.after));
  if (!isReset || last.after === null) return { replay, isReset };
  return { replay: visible(await jobReader.read(jobId, null), jobId, caller), isReset };
}

async function poll(
  req: Request,
  res: Response,
  deps: EventsDeps,
  admission: Admission,
  jobId: string,
  last: LastVersion,
): Promise<void> {
  const { hub, jobReader, registry, presence } = deps;
  const caller = callerOf(res);
  let isCounted = presence === undefined;
  const { replay, isReset } = await waitForNews({
    hub,
    topics: [`job:${jobId}`],
    waitMs: waitMsOf(req, caller),
    signal: AbortSignal.any([clientGone(res), registry.draining]),
    async read() {
      const missed = await readMissed(jobReader, jobId, last, caller);
      if (!isCounted && presence) admission.onRelease(presence.join(jobId, caller.ownerId));
      isCounted = true;
      return missed;
    },
    hasNews: ({ replay: { events, status } }) => events.length > 0 || isFinal(status),
  });
  const newest = replay.events.at(-1);
  answerPoll(res, deps, {
    events: replay.events.map(({ json }) => json),
    cursor: newest?.id ?? idOfLast(last, replay.tagAfter) ?? String(replay.version),
    done: (newest?.version ?? replay.version) === replay.version && isFinal(replay.status),
    isReset,
  });
}

/** @throws {JobcastError} not_found, in the same words for no job and for somebody else's */
function visible(replay: JobReplay | undefined, jobId: string, caller: Caller): JobReplay {
  if (replay && mayRead(caller, { ...replay, id: jobId })) return replay;
  throw new JobcastError("not_found", NOT_FOUND);
}
