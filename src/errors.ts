/** Every code that a caller can meet, stable for ever; its HTTP status lives in http/problem.ts. */
export const ERROR_CODES = [
  "invalid_request",
  "invalid_json",
  "unauthenticated",
  "insufficient_scope",
  "origin_not_allowed",
  "insufficient_credits",
  "not_found",
  "method_not_allowed",
  "not_acceptable",
  "job_conflict",
  "attempt_mismatch",
  "version_mismatch",
  "job_exists",
  "idempotency_key_in_use",
  "locked",
  "request_timeout",
  "payload_too_large",
  "unsupported_media_type",
  "idempotency_key_reused",
  "too_many_streams",
  "rate_limited",
  "quota_exceeded",
  "draining",
  "overloaded",
  "database_unavailable",
  "keys_unavailable",
  "internal",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Those that say nothing of the request: the same one may be answered in a moment. */
const PASSING: ReadonlySet<ErrorCode> = new Set([
  "overloaded",
  "database_unavailable",
  "keys_unavailable",
] as const);

/** One field of a request that was wrong, by its path (`body.jobs.0.type`, `query.limit`). */
export type FieldProblem = { readonly path: string; readonly message: string };

/** What is wrong, for the caller: a stable code, a sentence, and what the code needs beside them. */
export class JobcastError extends Error {
  readonly code: ErrorCode;
  readonly fields: readonly FieldProblem[] | undefined;
  /** Further members of the problem document, such as the job's present `status`. */
  readonly details: Readonly<Record<string, unknown>> | undefined;
  /** When it is known how long to stay away. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: {
      cause?: unknown;
      fields?: readonly FieldProblem[];
      details?: Readonly<Record<string, unknown>>;
      retryAfterMs?: number;
    } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = "JobcastError";
    this.code = code;
    this.fields = options.fields;
    this.details = options.details;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Whether it is worth trying again: what is no word of ours may be one of the database's. */
export function isPassing(error: unknown): boolean {
  if (error instanceof JobcastError) return PASSING.has(error.code);
  return !(error instanceof TypeError || error instanceof RangeError);
}
