import { z } from "zod";

/** One field of a request that was wrong, by its path (`body.jobs.0.type`, `query.limit`). */
const fieldSchema = z.object({ path: z.string(), message: z.string() });

/**
 * What every failed request is answered with, as `application/problem+json`. `code` is stable and
 * is what a program should look at; further members depend on it, such as `job`, the present
 * `{ status, version }` of a job that cannot take an update.
 * @see https://www.rfc-editor.org/rfc/rfc9457
 */
export const problemSchema = z.looseObject({
  /** `about:blank`: the title says what the HTTP status says, the code says the rest. */
  type: z.string(),
  title: z.string(),
  status: z.int().min(400).max(599),
  detail: z.string(),
  code: z.string(),
  fields: z.array(fieldSchema).optional(),
});

export type Problem = z.infer<typeof problemSchema>;
