import type { Request } from "express";
import { z } from "zod";
import type { Filter, Scope } from "../../change/scope.ts";
import { JobcastError } from "../../errors.ts";
import { jobIdSchema } from "../../protocol/job-id.ts";
import { textSchema } from "../../protocol/json.ts";
import { severalSchema } from "../../protocol/page.ts";
import { writtenStatusSchema } from "../../protocol/status.ts";
import { isLimited, listedOwner } from "../access.ts";
import type { Caller } from "../auth/caller.ts";
import { JOB_ID, OWNER } from "../openapi/examples.ts";
import { parseQuery } from "../validate.ts";
import { NOT_FOUND } from "./events-request.ts";

/** A URL longer than this does not pass every proxy. */
const MAX_NAMED_JOBS = 100;

const nameSchema = textSchema(255).min(1);

const filterQuery = z.object({
  type: severalSchema(nameSchema)
    .optional()
    .meta({ description: "Only jobs of this type; several with commas.", example: ["image"] }),
  status: severalSchema(writtenStatusSchema)
    .optional()
    .meta({
      description: "Only versions that stand so; several with commas.",
      example: ["completed", "failed"],
    }),
});

/** What the query of `GET /v1/events` says of the jobs: some by name, or all of somebody; and what of them. */
export const scopeQuery = z.object({
  jobs: z
    .array(jobIdSchema)
    .min(1)
    .max(MAX_NAMED_JOBS)
    .optional()
    .meta({
      description: "Ids with commas between them. Not with `batchId` or `ownerId`.",
      example: [JOB_ID],
    }),
  batchId: jobIdSchema.optional().meta({ description: "All jobs of a batch." }),
  ownerId: nameSchema.optional().meta({ description: "All jobs of an owner.", example: OWNER }),
  ...filterQuery.shape,
});

/** What names the jobs, as it came: an id that is none is like one that nobody has. */
const namesQuery = z.object({
  jobs: z.unknown().optional(),
  batchId: z.unknown().optional(),
  ownerId: nameSchema.optional(),
});

/**
 * `?jobs=a,b`, `?batchId=id`, `?ownerId=name`, or all that the caller may read: of a stream token
 * for jobs, those.
 */
export function scopeOf(req: Request, caller: Caller): Scope {
  const { jobs, batchId, ownerId } = parseQuery(namesQuery, req);
  const [name, other] = Object.entries({ jobs, batchId, ownerId }).flatMap(([key, value]) =>
    value === undefined ? [] : [key],
  );
  if (other !== undefined) throw notTogether(other, String(name));
  return { ...jobsOf({ jobs, batchId, ownerId }, caller), ...filterOf(req) };
}

function jobsOf(
  { jobs, batchId, ownerId }: z.infer<typeof namesQuery>,
  caller: Caller,
): Exclude<Scope, "filter"> {
  if (jobs !== undefined) return { kind: "jobs", jobIds: idsIn(jobs) };
  if (batchId !== undefined) return { kind: "batch", id: idIn(batchId) };
  if (isLimited(caller) && ownerId !== undefined) {
    throw notTogether("ownerId", "a token of some jobs");
  }
  if (caller.jobs) return { kind: "jobs", jobIds: [...caller.jobs] };
  if (caller.batchId !== undefined) return { kind: "batch", id: caller.batchId };
  const owner = listedOwner(caller, ownerId);
  return owner === undefined ? { kind: "all" } : { kind: "owner", id: owner };
}

function notTogether(name: string, other: string): JobcastError {
  return new JobcastError("invalid_request", "Name jobs, a batch or an owner, not two of them.", {
    fields: [{ path: `query.${name}`, message: `cannot be combined with ${other}` }],
  });
}

function filterOf(req: Request): { readonly filter?: Filter } {
  const { type: types, status: statuses } = parseQuery(filterQuery, req);
  return types || statuses ? { filter: { types, statuses } } : {};
}

function idIn(value: unknown): string {
  const id = jobIdSchema.safeParse(value);
  if (!id.success) throw new JobcastError("not_found", NOT_FOUND);
  return id.data.toLowerCase();
}

function idsIn(jobs: unknown): readonly string[] {
  const ids = z.array(jobIdSchema).min(1).safeParse([jobs].flat().join(",").split(","));
  if (!ids.success) throw new JobcastError("not_found", NOT_FOUND);
  const jobIds = [...new Set(ids.data.map((id) => id.toLowerCase()))];
  if (jobIds.length > MAX_NAMED_JOBS) {
    throw new JobcastError("invalid_request", "Too many jobs for one stream.", {
      fields: [{ path: "query.jobs", message: `must name at most ${MAX_NAMED_JOBS} jobs` }],
    });
  }
  return jobIds;
}
