import { z } from "zod";
import { callbackResultSchema, callbackSchema } from "../../protocol/callback.ts";
import { ACCESS } from "../access.ts";
import { receiveCallback } from "../callbacks/receive.ts";
import { JOB_ID } from "../openapi/examples.ts";
import { defineOperation, json, type Resource } from "../operation.ts";
import { jobPath } from "./parameters.ts";

const applied = { jobId: JOB_ID, status: "processing", version: 5, applied: true };

export const callbacks: Resource = {
  name: "Callbacks",
  description:
    "Where external providers report on a job. The URL, with its token for one attempt, comes with the job's creation.",
  operations: [
    defineOperation({
      id: "receiveCallback",
      method: "post",
      path: "/v1/callbacks/{id}",
      summary: "Report as a provider",
      description:
        "Authenticated by the job's callback token, or by a signature after Standard Webhooks. Duplicates, and what comes late or in disorder, change nothing and are a success all the same; `applied` tells. Any `Content-Type` will do.",
      access: ACCESS.receiveCallback,
      params: jobPath(JOB_ID),
      headers: z.object({
        "webhook-id": z.string().optional().meta({
          description:
            "The delivery's own id, the same when it is sent again: a second one changes nothing.",
          example: "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        }),
        "webhook-timestamp": z.string().optional().meta({
          description: "With a signature: seconds since the epoch, at most five minutes off.",
        }),
      }),
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
            provider: { ...applied, status: "completed", version: 6 },
          }),
        },
      },
      problems: ["not_found"],
      handler: receiveCallback,
    }),
  ],
};
