import type { Request, Response } from "express";
import { JobcastError } from "../../errors.ts";
import { formatCursor, parseCursor } from "../../protocol/cursor.ts";
import type { Scope } from "../../protocol/scope.ts";
import type { Snapshot } from "../../protocol/snapshot.ts";
import { topicsOf } from "../../stream/hub.ts";
import { waitForNews } from "../../stream/long-poll.ts";
import { readForRequest, readPatiently } from "../../stream/patience.ts";
import type { ScopeRead } from "../../stream/ports.ts";
import { ScopeSubscriber } from "../../stream/scope-subscriber.ts";
import { type Caller, callerOf, mayRead } from "../auth/caller.ts";
import { visibleBatch } from "./batch-events.ts";
import { clientGone, lastIdOf, NOT_FOUND, scopeOf, waitMsOf } from "./events-request.ts";
import { answerHead, answerPoll, type EventsDeps, openStream, type Visit } from "./stream-edge.ts";

/** What a client is told first, and whether its last id meant nothing. */
type Opening = { readonly read: ScopeRead; readonly isReset: boolean };

/** `GET /v1/events`: many jobs on one connection, as SSE or as one long poll. */
export async function scopeEvents(req: Request, res: Response, deps: EventsDeps, visit: Visit) {
  const caller = callerOf(res);
  const scope = scopeOf(req, caller);
  if (req.method === "HEAD") {
    await readVisible(scope, caller, deps);
    return answerHead(res, visit);
  }
  if (visit.transport === "long-poll") return poll(req, res, deps, scope);
  return stream(req, res, deps, visit, scope);
}

async function stream(
  req: Request,
  res: Response,
  deps: EventsDeps,
  visit: Visit,
  scope: Scope,
): Promise<void> {
  const { hub, onError } = deps;
  const caller = callerOf(res);
  const epoch = deps.epoch();
  const subscriber = new ScopeSubscriber(epoch, (since, isWanted) =>
    readPatiently(() => readOn(scope, since, deps), isWanted, onError),
  );
  visit.onLeave(hub.subscribe(topicsOf(scope), subscriber));
  const { read, isReset } = await readForRequest(
    () => readOpening(scope, caller, lastIdOf(req), deps),
    clientGone(res),
    onError,
  );
  const opened = await openStream(res, deps, visit, caller);
  if (opened) await subscriber.begin(opened, read, isReset);
}

async function poll(req: Request, res: Response, deps: EventsDeps, scope: Scope): Promise<void> {
  const caller = callerOf(res);
  const { read, isReset } = await waitForNews({
    hub: deps.hub,
    topics: topicsOf(scope),
    waitMs: waitMsOf(req, caller),
    signal: AbortSignal.any([clientGone(res), deps.registry.draining]),
    read: () => readOpening(scope, caller, lastIdOf(req), deps),
    hasNews: (opening) =>
      opening.isReset || lastIdOf(req) === undefined || opening.read.changes.length > 0,
  });
  answerPoll(res, deps, {
    events: read.changes.map(({ event }) => event),
    cursor: formatCursor(deps.epoch(), read.snapshot),
    done: false,
    isReset,
  });
}

/** What was missed since the client's last id, or the present states. */
async function readOpening(
  scope: Scope,
  caller: Caller,
  lastId: string | undefined,
  deps: EventsDeps,
): Promise<Opening> {
  const since = lastId === undefined ? undefined : parseCursor(deps.epoch(), lastId);
  if (since) {
    // An owner sees its own jobs: no need to read all the states, which nobody would be told.
    if (scope.kind !== "owner") await readVisible(scope, caller, deps);
    const missed = await deps.scopeReader.readSince(scope, since);
    if (missed) return { read: missed, isReset: false };
  }
  return { read: await readVisible(scope, caller, deps), isReset: lastId !== undefined };
}

async function readOn(
  scope: Scope,
  since: Snapshot,
  { scopeReader }: EventsDeps,
): Promise<Opening> {
  const missed = await scopeReader.readSince(scope, since);
  if (missed) return { read: missed, isReset: false };
  return { read: await scopeReader.readStates(scope), isReset: true };
}

/** @throws {JobcastError} not_found when any job or batch that was named is not the caller's to see */
async function readVisible(scope: Scope, caller: Caller, deps: EventsDeps): Promise<ScopeRead> {
  if (scope.kind === "batch") visibleBatch(await deps.batchReader.read(scope.id), caller);
  const states = await deps.scopeReader.readStates(scope);
  if (scope.kind !== "jobs") return states;
  const isVisible = states.changes.every(({ event, ownerId }) =>
    mayRead(caller, { id: event.jobId, ownerId }),
  );
  if (isVisible && states.changes.length === scope.jobIds.length) return states;
  throw new JobcastError("not_found", NOT_FOUND);
}
