import { setTimeout as delay } from "node:timers/promises";
import type { Request, Response } from "express";
import { withOwner } from "../../change/change.ts";
import {
  formatCursor,
  formatWalk,
  POLL_LENGTH,
  parseCursor,
  parseWalk,
} from "../../change/cursor.ts";
import { isTold, type Scope } from "../../change/scope.ts";
import type { Snapshot } from "../../change/snapshot.ts";
import { JobcastError } from "../../errors.ts";
import { topicsOf } from "../../stream/hub.ts";
import { waitForNews } from "../../stream/long-poll.ts";
import type { Admission } from "../../stream/registry.ts";
import { readForRequest, readWithRetry } from "../../stream/retry.ts";
import { type Opening, ScopeSubscriber } from "../../stream/scope-subscriber.ts";
import { mayRead, maySeeOwners } from "../access.ts";
import { type Caller, callerOf } from "../auth/caller.ts";
import { visibleBatch } from "./batch-events.ts";
import { clientGone, lastIdOf, NOT_FOUND, waitMsOf } from "./events-request.ts";
import { scopeOf } from "./scope-query.ts";
import { answerHead, answerPoll, type EventsDeps, openStream } from "./stream-edge.ts";

/** How often a long poll is answered at most whose cursor says less than its answer. */
const REPEATS_MS = 1_000;

/** `GET /v1/events`: many jobs on one connection, as SSE or as one long poll. */
export async function scopeEvents(
  req: Request,
  res: Response,
  deps: EventsDeps,
  admission: Admission,
) {
  const caller = callerOf(res);
  const scope = scopeOf(req, caller);
  if (req.method === "HEAD") {
    await checkVisible(scope, caller, deps);
    return answerHead(res, admission);
  }
  if (admission.transport === "long-poll") return poll(req, res, deps, scope);
  return stream(req, res, deps, admission, scope);
}

async function stream(
  req: Request,
  res: Response,
  deps: EventsDeps,
  admission: Admission,
  scope: Scope,
): Promise<void> {
  const { hub, registry, scopeReader, onError } = deps;
  const caller = callerOf(res);
  const subscriber = new ScopeSubscriber(
    { epoch: deps.epoch(), scope, showsOwners: maySeeOwners(caller) },
    {
      since: (snapshot, isWanted) =>
        readWithRetry(() => readSince(scope, snapshot, caller, deps), isWanted, onError),
      next: (walk, isWanted) =>
        readWithRetry(() => scopeReader.readOn(scope, walk, caller.ownerId), isWanted, onError),
    },
    registry.parking,
  );
  admission.onRelease(hub.subscribe(topicsOf(scope), subscriber));
  admission.onRelease(() => subscriber.leave());
  const lastId = lastIdOf(req);
  const opening = await readForRequest(
    () => readOpening(scope, caller, lastId, deps),
    clientGone(res),
    onError,
  );
  const opened = await openStream(res, deps, admission, opening.isReset ? undefined : lastId);
  await opened?.run(() => subscriber.begin(opened, opening));
}

async function poll(req: Request, res: Response, deps: EventsDeps, scope: Scope): Promise<void> {
  const caller = callerOf(res);
  const lastId = lastIdOf(req);
  const { page, isReset } = await waitForNews({
    hub: deps.hub,
    topics: topicsOf(scope),
    isTold: (news) => isTold(scope, news),
    waitMs: waitMsOf(req, caller),
    signal: AbortSignal.any([clientGone(res), deps.registry.draining]),
    read: () => readOpening(scope, caller, lastId, deps),
    hasNews: (opening) =>
      opening.isReset ||
      lastId === undefined ||
      opening.page.changes.length > 0 ||
      opening.page.next !== undefined,
  });
  const { changes, snapshot, next } = page;
  const epoch = deps.epoch();
  const cursor = formatCursor(epoch, snapshot, POLL_LENGTH);
  // What does not fit into it is told again, which is not to happen all day long.
  if (parseCursor(epoch, cursor)?.xmax !== snapshot.xmax) await pause(deps.registry.draining);
  answerPoll(res, deps, {
    events: changes.map((change) => (maySeeOwners(caller) ? withOwner(change) : change.json)),
    cursor: next ? formatWalk(epoch, next) : cursor,
    done: false,
    isReset,
  });
}

/** @param signal ends it */
async function pause(signal: AbortSignal): Promise<void> {
  await delay(REPEATS_MS, undefined, { signal }).catch(() => undefined);
}

/** What was missed since the client's last id, or the present states. */
async function readOpening(
  scope: Scope,
  caller: Caller,
  lastId: string | undefined,
  deps: EventsDeps,
): Promise<Opening> {
  const { scopeReader } = deps;
  await checkVisible(scope, caller, deps);
  if (lastId !== undefined) {
    const walk = parseWalk(deps.epoch(), lastId);
    if (walk)
      return { page: await scopeReader.readOn(scope, walk, caller.ownerId), isReset: false };
    const since = parseCursor(deps.epoch(), lastId);
    if (since) return readSince(scope, since, caller, deps);
  }
  const page = await scopeReader.readStates(scope, caller.ownerId);
  return { page, isReset: lastId !== undefined };
}

/** What changed since a snapshot or, when that is too much or unknown, the present states. */
async function readSince(
  scope: Scope,
  since: Snapshot,
  { ownerId }: Caller,
  { scopeReader }: EventsDeps,
): Promise<Opening> {
  const missed = await scopeReader.readSince(scope, since, ownerId);
  if (missed) return { page: missed, isReset: false };
  return { page: await scopeReader.readStates(scope, ownerId), isReset: true };
}

/**
 * An owner sees its own jobs, and nothing is to be looked at.
 * @throws {JobcastError} not_found when any job or batch that was named is not the caller's to see
 */
async function checkVisible(scope: Scope, caller: Caller, deps: EventsDeps): Promise<void> {
  if (scope.kind === "batch") visibleBatch((await deps.batchReader.read(scope.id))?.batch, caller);
  if (scope.kind !== "jobs") return;
  const owners = await deps.findOwners(scope.jobIds, caller.ownerId);
  const isVisible = scope.jobIds.every((id) => {
    const ownerId = owners.get(id);
    return ownerId !== undefined && mayRead(caller, { id, ownerId });
  });
  if (!isVisible) throw new JobcastError("not_found", NOT_FOUND);
}
