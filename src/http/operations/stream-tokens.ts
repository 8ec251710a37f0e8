import type { BatchStore } from "../../db/batches.ts";
import type { FindOwners } from "../../db/job-owners.ts";
import { createStreamTokenSchema, streamTokenSchema } from "../../protocol/stream-token.ts";
import { ACCESS, mayRead, requireOwn } from "../access.ts";
import type { Caller } from "../auth/caller.ts";
import { SMALL_BODY } from "../body.ts";
import { visibleBatch } from "../events/batch-events.ts";
import { JOB_ID, OWNER } from "../openapi/examples.ts";
import { defineOperation, json, type Resource, reply } from "../operation.ts";
import { noSuchJob } from "../validate.ts";
import { viewerToken } from "../viewer-token.ts";

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
  description: "Tokens that can do nothing but watch, for URLs: `EventSource` sends no headers.",
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
      async handler({ mintStreamToken, findOwners, batches }, { caller, body }) {
        const { jobs, batchId, ownerId = caller.ownerId, ttlSeconds } = (await body()).value;
        requireOwn(caller, ownerId);
        const isForeign = jobs
          ? await areForeign(findOwners, caller, jobs)
          : batchId !== undefined && (await isForeignBatch(batches, caller, batchId));
        const scope = isForeign ? ("jobs:read" as const) : undefined;
        const grant = { ownerId, jobs, batchId, scope, ttlSeconds };
        return reply(await viewerToken(mintStreamToken, caller, grant), 201);
      },
    }),
  ],
};

/** Whether some of them are somebody else's, which the token has to say. @throws {JobcastError} not_found */
async function areForeign(findOwners: FindOwners, caller: Caller, ids: readonly string[]) {
  const owners = await findOwners(ids, caller.ownerId);
  for (const id of ids) {
    const ownerId = owners.get(id);
    if (ownerId === undefined || !mayRead(caller, { id, ownerId })) {
      throw noSuchJob();
    }
  }
  return ids.some((id) => owners.get(id) !== caller.ownerId);
}

/** The same of a batch. @throws {JobcastError} not_found */
async function isForeignBatch(batches: BatchStore, caller: Caller, id: string) {
  return visibleBatch(await batches.get(id, caller.ownerId), caller).ownerId !== caller.ownerId;
}
