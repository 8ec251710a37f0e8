import { type ErrorCode, type FieldProblem, JobcastError } from "./errors.ts";

/*
 * What PostgreSQL's errors, and those of the way to it, say of a request: in one vocabulary for who
 * calls over HTTP and for who calls in process.
 */

type Meaning = readonly [ErrorCode, string];

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
  ["JC008", ["version_mismatch", "The job has another version by now."]],
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
  [
    "events_bounded",
    { path: "body", message: "the job has told 1000 events, and may tell no more" },
  ],
  ["event_data_size", { path: "body.data", message: "is larger than 64 KiB" }],
  ["event_name_is_free", { path: "body.event", message: "is no name, or is taken" }],
  // No batch and somebody else's batch are the same: the difference would tell that there is one.
  ["batch_of_the_same_owner", { path: "body.batchId", message: "is no batch of this owner" }],
]);

const KEY_IN_USE: Meaning = [
  "idempotency_key_in_use",
  "A request with this Idempotency-Key is still under way; nothing was done.",
];

/** Where PostgreSQL waited: of what is inserted there, only the keys of requests may be there twice. */
const INSERTING = /inserting index tuple .* in relation "(jobs|batches)"/;

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

/** The error of a statement, or of its connection, as one of ours; undefined when it is neither. */
export function fromDatabase(error: unknown): JobcastError | undefined {
  if (error instanceof JobcastError) return error;
  if (!(error instanceof Error)) return undefined;
  if (isOfServer(error)) return fromServer(error);
  const { code } = error as NodeJS.ErrnoException;
  if (!NETWORK_ERRORS.has(code ?? "") && !CONNECTION_LOST.test(error.message)) return undefined;
  return new JobcastError(...UNAVAILABLE, { cause: error });
}

/** As node-postgres has it, whichever copy of it an application brings. */
type ServerError = Error & {
  readonly code: string;
  readonly severity: string;
  readonly where?: string;
  readonly constraint?: string;
  readonly detail?: string;
};

function isOfServer(error: Error): error is ServerError {
  const { code, severity } = error as Partial<ServerError>;
  return typeof code === "string" && /^[\dA-Z]{5}$/.test(code) && typeof severity === "string";
}

function fromServer(error: ServerError): JobcastError {
  if (error.code === "55P03" && INSERTING.test(error.where ?? "")) {
    return new JobcastError(...KEY_IN_USE, { cause: error });
  }
  if (error.constraint === "jobs_pkey") {
    return new JobcastError("job_exists", "There is a job with this id.", { cause: error });
  }
  const field = CONSTRAINTS.get(error.constraint ?? "");
  const options = { cause: error, ...(field && { fields: [field] }) };
  return toRefusal(error.code, parseDetail(error), options) ?? unforeseen(error);
}

/** An error that nobody foresaw: what it says is for the log. */
export function unforeseen(cause: unknown): JobcastError {
  return new JobcastError("internal", "Something went wrong on our side.", { cause });
}

/** Our own rules put the job's state into the DETAIL, as JSON; elsewhere it is prose for operators. */
function parseDetail({ code, detail }: ServerError): Record<string, unknown> | undefined {
  return code.startsWith("JC") && detail?.startsWith("{") ? JSON.parse(detail) : undefined;
}
