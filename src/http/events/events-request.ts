import type { Request, Response } from "express";
import { z } from "zod";
import { JobcastError } from "../../errors.ts";
import type { Transport } from "../../stream/registry.ts";
import type { Caller } from "../auth/caller.ts";

/** Seconds that a long poll waits when it does not say: below every proxy's patience. */
const DEFAULT_WAIT_SECONDS = 25;
const MAX_WAIT_SECONDS = 60;

/** The most that is really waited: nginx, AWS and others give up at 60 s, and would win the race. */
const LONGEST_WAIT_MS = 55_000;

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

/** Aborted when the client has gone. */
export function clientGone(res: Response): AbortSignal {
  const gone = new AbortController();
  if (res.destroyed || res.closed) gone.abort();
  else res.once("close", () => gone.abort());
  return gone.signal;
}
