import { z } from "zod";

const fieldSchema = z.object({
  path: z.string().meta({ description: "Where it is: `body.jobs.0.type`, `query.limit`." }),
  message: z.string().meta({ description: "What is wrong with it." }),
});

/** @see https://www.rfc-editor.org/rfc/rfc9457 */
export const problemSchema = z
  .looseObject({
    type: z.string().meta({
      description:
        "`about:blank`: the title says what the HTTP status says, the code says the rest.",
    }),
    title: z.string().meta({ description: "The name of the HTTP status." }),
    status: z.int().min(400).max(599).meta({ description: "The HTTP status." }),
    detail: z
      .string()
      .meta({ description: "What is wrong, in a sentence for people. It may change." }),
    code: z.string().meta({ description: "What is wrong, for programs. It never changes." }),
    fields: z
      .array(fieldSchema)
      .optional()
      .meta({ description: "With `invalid_request`: what is wrong with which field." }),
  })
  .meta({
    description:
      "What every failed request is answered with (RFC 9457). A program should look at `code` alone; further members depend on it, such as `job`, the present state of a job that cannot take an update.",
  });

export type Problem = z.infer<typeof problemSchema>;
