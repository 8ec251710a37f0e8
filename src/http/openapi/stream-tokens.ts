import { createStreamTokenSchema, streamTokenSchema } from "../../protocol/stream-token.ts";
import { JOB_ID } from "./examples.ts";
import { json, type Resource } from "./operation.ts";
import { describe, describeAny } from "./schemas.ts";

const answer = {
  token:
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImpvYmNhc3QifQ.eyJzdWIiOiJhbGljZSIsImV4cCI6MTc4NTIzMTMwMCwiYXVkIjoiam9iY2FzdDpzdHJlYW1zIn0.c2lnbmF0dXJlLW9mLWFuLWV4YW1wbGU",
  expiresAt: "2026-07-28T09:35:00.000Z",
};

export const streamTokens: Resource = {
  name: "Stream tokens",
  description:
    "Tokens that can do nothing but subscribe, for URLs: `EventSource` sends no headers.",
  schemas: [
    describeAny(
      "CreateStreamToken",
      createStreamTokenSchema,
      "What the token is for; may be left out.",
      {
        jobs: "The jobs that it may watch. Default: all that the caller owns.",
        ttlSeconds: "How long it is good for. It never outlives the token that asked for it.",
      },
    ),
    describe("StreamToken", streamTokenSchema, "A token for the streams.", {
      token: "Send it as `?access_token=`, or as any other token.",
      expiresAt: "When it, and every stream that it opened, ends.",
    }),
  ],
  operations: [
    {
      id: "createStreamToken",
      method: "post",
      path: "/v1/stream-tokens",
      summary: "Make a stream token",
      description:
        "Good until it expires and not just once: `EventSource` reconnects with the URL that it was made with.",
      access: "caller",
      body: {
        required: false,
        schema: createStreamTokenSchema,
        examples: { job: { jobs: [JOB_ID], ttlSeconds: 300 }, everything: {} },
      },
      answers: {
        201: {
          description: "The token.",
          content: json(streamTokenSchema, { job: answer, everything: answer }),
        },
      },
      problems: ["not_found"],
    },
  ],
};
