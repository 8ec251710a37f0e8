import { STATUS_CODES } from "node:http";
import type { ErrorRequestHandler, Response } from "express";
import type { EventLog } from "../calm-log.ts";
import type { ErrorCode, JobcastError } from "../errors.ts";
import type { Problem } from "../protocol/problem.ts";
import { audit } from "./audit.ts";
import { toJobcastError } from "./foreign-errors.ts";

/** Complete, so that a code without a status does not compile. */
export const PROBLEM_STATUS: Readonly<Record<ErrorCode, number>> = {
  invalid_request: 400,
  invalid_json: 400,
  unauthenticated: 401,
  insufficient_scope: 403,
  origin_not_allowed: 403,
  insufficient_credits: 402,
  not_found: 404,
  method_not_allowed: 405,
  not_acceptable: 406,
  job_conflict: 409,
  attempt_mismatch: 409,
  version_mismatch: 409,
  job_exists: 409,
  idempotency_key_in_use: 409,
  locked: 409,
  request_timeout: 408,
  payload_too_large: 413,
  unsupported_media_type: 415,
  idempotency_key_reused: 422,
  too_many_streams: 429,
  rate_limited: 429,
  quota_exceeded: 429,
  draining: 503,
  overloaded: 503,
  database_unavailable: 503,
  keys_unavailable: 503,
  internal: 500,
};

/**
 * Seconds, from and to, within which a client is asked to come back. A constant would bring
 * everybody who was refused at one moment back at one moment.
 */
export const RETRY_AFTER: Readonly<Partial<Record<ErrorCode, readonly [number, number]>>> = {
  idempotency_key_in_use: [1, 3],
  locked: [1, 3],
  too_many_streams: [5, 30],
  rate_limited: [5, 30],
  quota_exceeded: [30, 120],
  draining: [1, 5],
  overloaded: [1, 5],
  database_unavailable: [2, 10],
  keys_unavailable: [2, 10],
};

/** RFC 6750, 3: why a token was not enough, for clients that look at nothing else. */
const CHALLENGE: Readonly<Partial<Record<ErrorCode, string>>> = {
  unauthenticated: 'Bearer realm="jobcast"',
  insufficient_scope: 'Bearer realm="jobcast", error="insufficient_scope"',
};

/** The problem document of any error; of one that nobody foresaw it says nothing. */
export function toProblem(error: unknown): Problem {
  const { code, message, fields, details } = toJobcastError(error);
  const status = PROBLEM_STATUS[code];
  return {
    ...details,
    type: "about:blank",
    title: STATUS_CODES[status] ?? "Error",
    status,
    detail: message,
    code,
    ...(fields && { fields: [...fields] }),
  };
}

/** The last handler of the app: every error of every route ends here. */
export function problemHandler(log: EventLog): ErrorRequestHandler {
  return (error, req, res, _next) => {
    const known = toJobcastError(error);
    report(log, known, error);
    if (PROBLEM_STATUS[known.code] === 403) {
      audit({ req, res, log }, "access.refused", { code: known.code, method: req.method });
    }
    if (res.headersSent) {
      // There is no status left to send, and an end in good order would pass for a whole answer.
      res.destroy();
      return;
    }
    sendProblem(res, known);
  };
}

function sendProblem(res: Response, error: JobcastError): void {
  const { retryAfterMs } = error;
  const known = retryAfterMs === undefined ? undefined : Math.ceil(retryAfterMs / 1_000);
  const retryAfter =
    known === undefined ? RETRY_AFTER[error.code] : ([known, Math.ceil(known * 1.25) + 1] as const);
  if (retryAfter) res.set("Retry-After", String(randomInteger(...retryAfter)));
  const challenge = CHALLENGE[error.code];
  if (challenge && !res.hasHeader("WWW-Authenticate")) res.set("WWW-Authenticate", challenge);
  res
    .status(PROBLEM_STATUS[error.code])
    .set("Cache-Control", "no-store")
    .vary("Authorization")
    .type("application/problem+json")
    .send(JSON.stringify(toProblem(error)));
}

function report(log: EventLog, known: JobcastError, error: unknown): void {
  if (known.code === "internal") log.error({ err: error }, "a request failed for no known reason");
  else if (PROBLEM_STATUS[known.code] >= 500)
    log.warn({ err: error }, `a request failed: ${known.code}`);
}

function randomInteger(from: number, to: number): number {
  return from + Math.floor(Math.random() * (to - from + 1));
}
