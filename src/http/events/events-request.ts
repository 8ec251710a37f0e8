import type { Request, Response } from "express";
import { z } from "zod";
import type { Scope } from "../../change/scope.ts";
import { JobcastError } from "../../errors.ts";
import { jobIdSchema } from "../../protocol/job.ts";
import type { Transport } from "../../stream/registry.ts";
import type { Caller } from "../auth/caller.ts";

/** Seconds that a long poll waits when it does not say: below every proxy's patience. */
const DEFAULT_WAIT_SECONDS = 25;
const MAX_WAIT_SECONDS = 60;

/** The most that is really waited: nginx, AWS and others give up at 60 s, and would win the race. */
const LONGEST_WAIT_MS = 55_000;

/** A URL longer than this does not pass every proxy. */
export const MAX_NAMED_JOBS = 100;

/** The query parameter `wait` of a long poll, in seconds. */
export const waitSchema = z.coerce
  .number()
  .min(0)
  .max(MAX_WAIT_SECONDS)
  .default(DEFAULT_WAIT_SECONDS);

export const NOT_FOUND = "There is no such job, or it is not yours.";

/** SSE unless the client would rather have JSON: then it polls. */
export function transportOf(req: Request): Transport {
  const type = req.accepts(["text/event-stream", "application/json"]);
  if (type === "text/event-stream") return "sse";
  if (type === "application/json") return "long-poll";
  throw new JobcastError(
    "not_acceptable",
    "Accept text/event-stream for a stream, or application/json for long polling.",
  );
}

/**
 * The last id that the client saw: the header, which only an automatic reconnect sends and which
 * is newer than the URL that it repeats; else the query. Undefined on a first connect.
 */
export function lastIdOf(req: Request): string | undefined {
  const query = req.query["lastEventId"] ?? req.query["after"];
  // [spec] EventSource leaves the header out where it has no id: an empty one says nothing.
  const id: unknown = req.get("last-event-id") || (Array.isArray(query) ? query[0] : query);
  if (id === undefined || id === "") return undefined;
  return typeof id === "string" ? id : "?";
}

/** Milliseconds that a long poll may wait: no longer than its token is good for. */
export function waitMsOf(req: Request, caller: Caller): number {
  const wait = waitSchema.safeParse(req.query["wait"]);
  if (wait.success)
    return Math.min(wait.data * 1_000, LONGEST_WAIT_MS, caller.expiresAt - Date.now());
  throw new JobcastError("invalid_request", "The query is not valid.", {
    fields: [
      { path: "query.wait", message: `must be a number of seconds from 0 to ${MAX_WAIT_SECONDS}` },
    ],
  });
}

/** `?jobs=a,b`, `?batch=id`, or all the caller's own; a stream token's jobs stand for "all". */
export function scopeOf(req: Request, caller: Caller): Scope {
  const { jobs, batch } = req.query;
  if (jobs === undefined && batch === undefined) {
    if (caller.jobs) return { kind: "jobs", jobIds: [...caller.jobs] };
    return { kind: "owner", id: caller.ownerId };
  }
  if (jobs !== undefined && batch !== undefined) {
    throw new JobcastError("invalid_request", "Name jobs or a batch, not both.", {
      fields: [{ path: "query.batch", message: "cannot be combined with jobs" }],
    });
  }
  if (batch !== undefined) {
    const id = jobIdSchema.safeParse(batch);
    if (!id.success) throw new JobcastError("not_found", NOT_FOUND);
    return { kind: "batch", id: id.data.toLowerCase() };
  }
  const ids = z.array(jobIdSchema).min(1).safeParse([jobs].flat().join(",").split(","));
  if (!ids.success) throw new JobcastError("not_found", NOT_FOUND);
  const jobIds = [...new Set(ids.data.map((id) => id.toLowerCase()))];
  if (jobIds.length > MAX_NAMED_JOBS) {
    throw new JobcastError("invalid_request", "Too many jobs for one stream.", {
      fields: [{ path: "query.jobs", message: `must name at most ${MAX_NAMED_JOBS} jobs` }],
    });
  }
  return { kind: "jobs", jobIds };
}

/** Aborted when the client has gone. */
export function clientGone(res: Response): AbortSignal {
  const gone = new AbortController();
  if (res.destroyed || res.closed) gone.abort();
  else res.once("close", () => gone.abort());
  return gone.signal;
}
