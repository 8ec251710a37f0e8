import type { ErrorCode } from "../../errors.ts";

/** What a code means to whoever meets it; docs/errors.md has the same words. */
export type ProblemText = {
  readonly when: string;
  readonly remedy: string;
  /** The `detail` of the example. */
  readonly detail: string;
  /** Further members of the problem document, as an example. */
  readonly members?: Readonly<Record<string, object>>;
};

export const PROBLEM_TEXTS: Readonly<Record<ErrorCode, ProblemText>> = {
  invalid_request: {
    when: "A parameter, a header or the body breaks a rule; `fields` says which and how",
    remedy: "Mend the request; the same one fails again",
    detail: "The body of the request is not valid.",
    members: { fields: [{ path: "body.type", message: "Invalid input: expected string" }] },
  },
  invalid_json: {
    when: "The body is not JSON in UTF-8",
    remedy: "Mend the request",
    detail: "The body of the request is not JSON.",
  },
  unauthenticated: {
    when: "No token, or one that is malformed, expired, wrongly signed or meant for others",
    remedy: "Get a new token; the log of the server says what was wrong with this one",
    detail: "The request has no valid token.",
  },
  insufficient_scope: {
    when: "The token is good but lacks the scope, or is a stream token, which may only subscribe",
    remedy: "Ask for a token with the scope that `detail` names",
    detail: 'The token lacks the scope "jobs:write".',
  },
  origin_not_allowed: {
    when: "A page of a foreign origin sent the cookie",
    remedy: "Name the origin in `CORS_ORIGINS`, or send the token in the `Authorization` header",
    detail: "Pages of this origin may not use the cookie.",
  },
  insufficient_credits: {
    when: "The owner has fewer credits than the job, or its retry, costs; nothing was created",
    remedy: "Grant credits, then try again; `credits` has what is needed and the balance",
    detail: "The owner has too few credits.",
    members: { credits: { needed: 5, balance: 2 } },
  },
  not_found: {
    when: "There is nothing at this path, no such job or batch, or it is somebody else's",
    remedy:
      "Look at the id, and at whose token it is: what is not yours looks as if it were not there",
    detail: "There is no such job, or it is not yours.",
  },
  method_not_allowed: {
    when: "The path does not take this method",
    remedy: "Use one of those that the header `Allow` names",
    detail: "This path does not take DELETE.",
  },
  not_acceptable: {
    when: "A stream was asked for neither as `text/event-stream` nor as `application/json`",
    remedy: "Accept one of the two",
    detail: "Accept text/event-stream for a stream, or application/json for long polling.",
  },
  job_conflict: {
    when: "The job stands so that it cannot take the update: it has ended, or is past that status",
    remedy: "Look at `job`, its present status and version, and leave it so or retry the job",
    detail: "The job cannot take this update. It is completed.",
    members: { job: { status: "completed", version: 7 } },
  },
  attempt_mismatch: {
    when: "The update is of an attempt that is not the running one",
    remedy: "Stop working: the job was given to somebody else; `job` has the attempt that runs",
    detail: "Another attempt of the job is running.",
    members: { job: { status: "processing", attempt: 2 } },
  },
  version_mismatch: {
    when: "The update named the `version` that it is for, and the job has another by now; `job.version` says which",
    remedy: "Read the job, decide again, and send the update with the new version",
    detail: "The job has another version by now.",
    members: { job: { status: "processing", version: 4 } },
  },
  job_exists: {
    when: "A job with the `id` that the request chose exists",
    remedy: "Take it for created, or choose another id",
    detail: "There is a job with this id.",
  },
  idempotency_key_in_use: {
    when: "A request with this `Idempotency-Key` is still under way",
    remedy: "Wait for as long as `Retry-After` says, then send the same request again",
    detail: "A request with this Idempotency-Key is under way.",
  },
  locked: {
    when: "What the request would change is locked by another transaction, such as a worker's; nothing was done",
    remedy:
      "Send it again after `Retry-After`; a worker that keeps a job locked keeps its owner from it",
    detail:
      "What this would change is locked by another transaction, such as a worker's; nothing was done.",
  },
  request_timeout: {
    when: "The body of the request did not come within 30 seconds",
    remedy: "Send it again, on a better line",
    detail: "The body did not come in time.",
  },
  payload_too_large: {
    when: "The body is larger than 1 MiB, or what a job would hold larger than 2 MiB as PostgreSQL writes it",
    remedy: "Send less, or a link to it",
    detail: "The body of the request is larger than 1 MiB.",
  },
  unsupported_media_type: {
    when: "The body is not declared as `application/json`, or its encoding is not known",
    remedy: "Send `Content-Type: application/json`",
    detail: "The body must be application/json.",
  },
  idempotency_key_reused: {
    when: "The `Idempotency-Key` was used for another request",
    remedy: "Use a new key for what is new, and the same request for the same key",
    detail: "The Idempotency-Key was used for another request.",
  },
  too_many_streams: {
    when: "The owner, or the process, has as many streams open as it may",
    remedy: "Close one, or watch many jobs on one stream; come back after `Retry-After`",
    detail: "The limit of open streams is 100 for each owner; close one first.",
  },
  rate_limited: {
    when: "More requests came within a minute than are taken of one subject or from one address",
    remedy: "Come back after `Retry-After`, and ask less often",
    detail: "Too many requests; come back later.",
  },
  quota_exceeded: {
    when: "The owner has as many unfinished jobs as one may have, or they take as many bytes",
    remedy: "Wait for some of them to end, or cancel them",
    detail: "The owner has 1000 unfinished jobs, and may have no more.",
  },
  draining: {
    when: "The process is shutting down and takes no new streams",
    remedy: "Connect again after `Retry-After`: another process will answer",
    detail: "This process is shutting down; connect again.",
  },
  overloaded: {
    when: "There is more to do than this process can begin with, or large bodies than it has room for",
    remedy: "Send it again after `Retry-After`",
    detail: "There is too much to do just now; try again.",
  },
  database_unavailable: {
    when: "The database is away, full, or gave up on the request; where `outcome` is `unknown` it may have been done",
    remedy:
      "Send it again after `Retry-After`; an `Idempotency-Key` keeps that from doing it twice",
    detail: "The database is unavailable.",
  },
  keys_unavailable: {
    when: "The key set that tokens are checked with cannot be fetched",
    remedy: "Send it again after `Retry-After`",
    detail: "The keys of the tokens cannot be read just now.",
  },
  internal: {
    when: "A mistake of ours",
    remedy: "Report it, with the time: the log of the server has the rest",
    detail: "Something went wrong on our side.",
  },
};
