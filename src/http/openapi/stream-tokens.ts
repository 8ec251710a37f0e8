import { createStreamTokenSchema, streamTokenSchema } from "../../protocol/stream-token.ts";
import { JOB_ID, OWNER } from "./examples.ts";
import { json, type Resource } from "./operation.ts";
import { describe, describeAny } from "./schemas.ts";

const EXPIRES_AT = "2026-07-28T09:35:00.000Z";

/** What looks like such a token but is signed by nobody. */
function answer(claims: object) {
  const exp = Date.parse(EXPIRES_AT) / 1_000;
  const parts = [
    { alg: "HS256", typ: "JWT", kid: "jobcast" },
    { sub: OWNER, exp, ...claims, aud: "jobcast:streams" },
    "the signature of an example",
  ];
  const encoded = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
  return { token: encoded.join("."), expiresAt: EXPIRES_AT };
}

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
          content: json(streamTokenSchema, {
            job: answer({ jobs: [JOB_ID] }),
            everything: answer({}),
          }),
        },
      },
      problems: ["not_found"],
    },
  ],
};
