import pg from "pg";
import { type ErrorCode, type FieldProblem, JobcastError } from "../errors.ts";

/** What http-errors, which Express and its body parser throw, has beside the message. */
type HttpError = Error & { readonly status: number; readonly type?: string };

type Meaning = readonly [ErrorCode, string];

/** The errors of the body parser by their `type`. */
const BODY_ERRORS: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ["entity.parse.failed", ["invalid_json", "The body of the request is not JSON."]],
  ["entity.too.large", ["payload_too_large", "The body of the request is larger than 1 MiB."]],
  ["charset.unsupported", ["unsupported_media_type", "The body of the request must be UTF-8."]],
  ["encoding.unsupported", ["unsupported_media_type", "The Content-Encoding is not known."]],
]);

/** Other errors of a request by their status. */
const STATUSES: ReadonlyMap<number, Meaning> = new Map<number, Meaning>([
  [401, ["unauthenticated", "The request has no valid token."]],
  [404, ["not_found", "There is nothing here."]],
  [413, ["payload_too_large", "The request is too large."]],
  [415, ["unsupported_media_type", "The Content-Type is not valid."]],
]);

const MALFORMED: Meaning = ["invalid_request", "The request is malformed."];

const LOCKED: Meaning = [
  "locked",
  "What this would change is locked by another transaction, such as a worker's; nothing was done.",
];

const UNAVAILABLE: Meaning = ["database_unavailable", "The database is unavailable."];

/** What SQLSTATEs, or classes of them, say of a request; the longest match counts. */
const SQLSTATES: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ["JC001", ["job_conflict", "The job cannot take this update."]],
  ["JC002", ["not_found", "There is no such job, or it is not yours."]],
  ["JC003", ["attempt_mismatch", "Another attempt of the job is running."]],
  ["JC004", ["insufficient_credits", "The owner has too few credits."]],
  ["JC005", ["invalid_request", "This never changes."]],
  ["JC006", ["idempotency_key_reused", "The Idempotency-Key was used for another request."]],
  ["JC007", LOCKED],
  ["22", ["invalid_request", "A value is malformed or out of its range."]],
  ["23", ["invalid_request", "A value breaks a rule of the database."]],
  ["54", ["payload_too_large", "What is to be kept is larger than 2 MiB as PostgreSQL writes it."]],
  ["55P03", LOCKED],
  // The server is going, coming, full, a standby since a failover, not yet what it was, or gave up
  // on what took too long: all of it passes.
  ...[
    "08",
    "25006",
    "25P03",
    "25P04",
    "28",
    "3D",
    "3F",
    "40",
    "42P01",
    "53",
    "55000",
    "57014",
    "57P",
  ].map((state): [string, Meaning] => [state, UNAVAILABLE]),
]);

/** Fields whose value only the database can judge, by the constraint that refused it. */
const CONSTRAINTS: ReadonlyMap<string, FieldProblem> = new Map([
  // No batch and somebody else's batch are the same: the difference would tell that there is one.
  ["batch_of_the_same_owner", { path: "body.batchId", message: "is no batch of this owner" }],
]);

const KEY_IN_USE: Meaning = [
  "idempotency_key_in_use",
  "A request with this Idempotency-Key is still under way; nothing was done.",
];

/** Where PostgreSQL waited: of what is inserted there, only the keys of requests may be there twice. */
const INSERTING = /inserting index tuple .* in relation "(jobs|batches)"/;

/** Whether somebody else holds what was to be changed. */
export function isLocked(error: unknown): boolean {
  return toJobcastError(error).code === "locked";
}

/** How Node says that there is no connection. */
const NETWORK_ERRORS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  // This process may open no more.
  "EMFILE",
  "ENFILE",
  "ENOBUFS",
  "EADDRNOTAVAIL",
]);

/** How node-postgres and its pool say it: as plain errors, so only the words tell them apart. */
const CONNECTION_LOST =
  /^(Connection terminated|Query read timeout|timeout (expired|exceeded when trying to connect)|Client (was closed|has encountered a connection error)|Cannot use a pool after)/;

/** The error of any part that we call as one of ours; `internal` when nobody foresaw it. */
export function toJobcastError(error: unknown): JobcastError {
  if (error instanceof JobcastError) return error;
  return (
    fromDatabase(error) ??
    fromRequest(error) ??
    new JobcastError("internal", "Something went wrong on our side.", { cause: error })
  );
}

/**
 * What an SQLSTATE means to the caller; undefined when it should never have come this far.
 * @param state what the caller may know: of the job, or of the credits that were too few
 */
export function toRefusal(
  sqlstate: string,
  state?: Readonly<Record<string, unknown>>,
  options?: { cause: unknown; fields?: readonly FieldProblem[] },
): JobcastError | undefined {
  const prefixes = [5, 3, 2].map((length) => sqlstate.slice(0, length));
  const [code, message] = prefixes.map((prefix) => SQLSTATES.get(prefix)).find(Boolean) ?? [];
  if (!code || !message) return undefined;
  const why = code === "job_conflict" && state ? ` It is ${state["status"]}.` : "";
  const member = code === "insufficient_credits" ? "credits" : "job";
  return new JobcastError(code, message + why, {
    ...options,
    ...(state && { details: { [member]: state } }),
  });
}

function fromDatabase(error: unknown): JobcastError | undefined {
  if (error instanceof pg.DatabaseError) return fromServer(error);
  if (!(error instanceof Error)) return undefined;
  const { code } = error as NodeJS.ErrnoException;
  if (!NETWORK_ERRORS.has(code ?? "") && !CONNECTION_LOST.test(error.message)) return undefined;
  return new JobcastError(...UNAVAILABLE, { cause: error });
}

function fromServer(error: pg.DatabaseError): JobcastError | undefined {
  if (error.code === "55P03" && INSERTING.test(error.where ?? "")) {
    return new JobcastError(...KEY_IN_USE, { cause: error });
  }
  const field = CONSTRAINTS.get(error.constraint ?? "");
  return toRefusal(error.code ?? "", parseDetail(error), {
    cause: error,
    ...(field && { fields: [field] }),
  });
}

/** Our own rules put the job's state into the DETAIL, as JSON; elsewhere it is prose for operators. */
function parseDetail({ code, detail }: pg.DatabaseError): Record<string, unknown> | undefined {
  return code?.startsWith("JC") && detail?.startsWith("{") ? JSON.parse(detail) : undefined;
}

function fromRequest(error: unknown): JobcastError | undefined {
  if (!isHttpError(error) || error.status < 400 || error.status >= 500) return undefined;
  const [code, message] =
    BODY_ERRORS.get(error.type ?? "") ?? STATUSES.get(error.status) ?? MALFORMED;
  return new JobcastError(code, message, { cause: error });
}

function isHttpError(error: unknown): error is HttpError {
  return error instanceof Error && typeof (error as HttpError).status === "number";
}
