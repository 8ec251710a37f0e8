import { z } from "zod";
import { callbackResultSchema, callbackSchema } from "../../protocol/callback.ts";
import { receiveCallback } from "../callbacks/receive.ts";
import { JOB_ID } from "../openapi/examples.ts";
import { header, pathId } from "../openapi/parameters.ts";
import { describe, describeAny } from "../openapi/schemas.ts";
import { defineOperation, json, type Resource } from "../operation.ts";

const applied = { jobId: JOB_ID, status: "processing", version: 4, applied: true };

export const callbacks: Resource = {
  name: "Callbacks",
  description:
    "Where external providers report on a job. The URL, with its token for one attempt, comes with the job's creation.",
  schemas: [
    describeAny(
      "Callback",
      callbackSchema,
      "An update of the job, in our words (see `UpdateJob`) or in a provider's: `state`, `percent`, `output`, `images` and other common names are understood, `succeeded`, `done`, `error`, `canceled` and other common words for a status too, and also a body as Standard Webhooks recommends it, `{ type, timestamp, data }`. What is not understood is passed over; null says nothing.",
    ),
    describe("CallbackResult", callbackResultSchema, "What became of a delivery.", {
      jobId: "The job.",
      status: "Where the job stands.",
      version: "The job's newest version.",
      applied: "Whether this delivery changed the job.",
      reason:
        "Why it did not: `duplicate` (this `webhook-id` was taken before), `other_attempt` (the token is of an attempt that is over), `job_ended`, `overtaken` (the job is past this status), `unchanged`.",
    }),
  ],
  operations: [
    defineOperation({
      id: "receiveCallback",
      method: "post",
      path: "/v1/callbacks/{id}",
      summary: "Report as a provider",
      description:
        "Authenticated by the job's callback token, or by a signature after Standard Webhooks. Duplicates, and what comes late or in disorder, change nothing and are a success all the same; `applied` tells. Any `Content-Type` will do.",
      access: "provider",
      parameters: [
        pathId("id", "The job.", JOB_ID),
        header("webhook-id", z.string().optional(), [
          "The delivery's own id, the same when it is sent again: a second one changes nothing.",
          "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        ]),
        header("webhook-timestamp", z.string().optional(), [
          "With a signature: seconds since the epoch, at most five minutes off.",
        ]),
      ],
      body: {
        required: true,
        schema: callbackSchema,
        examples: {
          ours: { status: "processing", progress: 80, message: "Almost there" },
          provider: { status: "succeeded", output: ["https://provider.example/bicycle.png"] },
        },
      },
      answers: {
        200: {
          description: "The delivery was taken, whether it changed the job or not.",
          content: json(callbackResultSchema, {
            ours: applied,
            provider: { ...applied, status: "completed", version: 5 },
          }),
        },
      },
      problems: ["not_found"],
      handler: receiveCallback,
    }),
  ],
};
