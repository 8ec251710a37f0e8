import type { FindOwners } from "../../db/job-owners.ts";
import {
  createStreamTokenSchema,
  type StreamToken,
  streamTokenSchema,
} from "../../protocol/stream-token.ts";
import { ACCESS, mayRead, mayReadAll } from "../access.ts";
import { type Caller, CLOCK_TOLERANCE_SECONDS } from "../auth/caller.ts";
import { SMALL_BODY } from "../body.ts";
import { JOB_ID, OWNER } from "../openapi/examples.ts";
import { defineOperation, json, type Resource, reply } from "../operation.ts";
import { noSuchJob } from "../validate.ts";

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
  operations: [
    defineOperation({
      id: "createStreamToken",
      method: "post",
      path: "/v1/stream-tokens",
      summary: "Make a stream token",
      description:
        "Good until it expires and not just once: `EventSource` reconnects with the URL that it was made with.",
      access: ACCESS.createStreamToken,
      body: {
        required: false,
        maxBytes: SMALL_BODY,
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
      async handler({ mintStreamToken, findOwners }, { caller, body }) {
        const { jobs, ttlSeconds } = (await body()).value;
        const { token, exp } = await mintStreamToken({
          ownerId: caller.ownerId,
          jobs,
          scope: jobs && (await scopeFor(findOwners, caller, jobs)),
          isForOneViewer: mayReadAll(caller),
          ttlSeconds,
          notAfter: caller.expiresAt - CLOCK_TOLERANCE_SECONDS * 1_000,
        });
        const expiresAt = new Date(exp * 1_000).toISOString();
        return reply({ token, expiresAt } satisfies StreamToken, 201);
      },
    }),
  ],
};

/** What the token needs beside its owner, to watch jobs that are not his. @throws {JobcastError} not_found */
async function scopeFor(findOwners: FindOwners, caller: Caller, ids: readonly string[]) {
  const owners = await findOwners(ids, caller.ownerId);
  for (const id of ids) {
    const ownerId = owners.get(id);
    if (ownerId === undefined || !mayRead(caller, { id, ownerId })) throw noSuchJob();
  }
  return ids.some((id) => owners.get(id) !== caller.ownerId) ? ("jobs:read" as const) : undefined;
}
