import { fromDatabase, unforeseen } from "../database-errors.ts";
import { type ErrorCode, JobcastError } from "../errors.ts";

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

/** Whether somebody else holds what was to be changed. */
export function isLocked(error: unknown): boolean {
  return toJobcastError(error).code === "locked";
}

/** The error of any part that we call as one of ours; `internal` when nobody foresaw it. */
export function toJobcastError(error: unknown): JobcastError {
  if (error instanceof JobcastError) return error;
  return fromDatabase(error) ?? fromRequest(error) ?? unforeseen(error);
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
