import type { Request } from "express";
import { z } from "zod";
import { type FieldProblem, JobcastError } from "../errors.ts";
import { jobIdSchema } from "../protocol/job-id.ts";
import type { JsonBody } from "./body.ts";
import { keysAt, meantBy } from "./did-you-mean.ts";

/** More of them help nobody, and a body of a megabyte can have a hundred thousand. */
const MAX_FIELDS = 50;

/** How parameters were called before. */
const OLDER_NAMES: ReadonlyMap<string, string> = new Map([
  ["owner", "ownerId"],
  ["batch", "batchId"],
]);

/** No key of ours is longer, and comparing takes as long as both are together. */
const MAX_KEY_LENGTH = 64;

/** @throws {JobcastError} invalid_request, with the path of each wrong field under `body`. */
export function parseBody<Schema extends z.ZodType>(
  schema: Schema,
  { value }: JsonBody,
): z.output<Schema> {
  return parse(schema, value, "body");
}

/** @throws {JobcastError} invalid_request, with the path of each wrong parameter under `query`. */
export function parseQuery<Schema extends z.ZodType>(
  schema: Schema,
  req: Request,
): z.output<Schema> {
  return parse(schema, queryOf(req, schema), "query");
}

/**
 * The query by the names that are in use now.
 * @param schema which has them
 */
function queryOf(req: Request, schema: z.ZodType): Request["query"] {
  const known = keysAt(schema, []);
  const named = Object.entries(req.query).map(([name, value]) => {
    const now = OLDER_NAMES.get(name);
    return [now !== undefined && known.includes(now) && !known.includes(name) ? now : name, value];
  });
  return Object.fromEntries(named);
}

/** A schema of these names and no others, for `parseQuery`; what they hold is read by the handler. */
export function namesOnly(names: readonly string[]): z.ZodObject {
  return z.strictObject(Object.fromEntries(names.map((name) => [name, z.unknown().optional()])));
}

/**
 * The id in a path, in lower case, as PostgreSQL writes it.
 * @throws {JobcastError} not_found: an id that cannot be one is like one that nobody has.
 */
export function parseId(req: Request): string {
  const { success, data } = jobIdSchema.safeParse(req.params["id"]);
  if (!success) throw noSuchJob();
  return data.toLowerCase();
}

/** The one answer for a job that does not exist and for one that the caller may not know of. */
export function noSuchJob(): JobcastError {
  return new JobcastError("not_found", "There is no such job, or it is not yours.");
}

function parse<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  place: string,
): z.output<Schema> {
  const { success, data, error } = schema.safeParse(value);
  if (success) return data;
  const fields = error.issues
    .slice(0, MAX_FIELDS)
    .flatMap((issue) => toFields(issue, place, schema));
  throw new JobcastError("invalid_request", `The ${place} of the request is not valid.`, {
    fields: fields.slice(0, MAX_FIELDS),
  });
}

function toFields(issue: z.core.$ZodIssue, place: string, schema: z.ZodType): FieldProblem[] {
  const path = [place, ...issue.path.map(String)].join(".");
  if (issue.code !== "unrecognized_keys") return [{ path, message: issue.message }];
  const known = keysAt(schema, issue.path);
  return issue.keys.slice(0, MAX_FIELDS).map((key) => {
    const meant = key.length > MAX_KEY_LENGTH ? undefined : meantBy(key, known);
    const advice = meant === undefined ? "" : `; did you mean "${meant}"?`;
    return { path: `${path}.${key}`, message: `is not known here${advice}` };
  });
}
