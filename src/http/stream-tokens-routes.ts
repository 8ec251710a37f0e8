import { Router } from "express";
import type { FindOwners } from "../db/job-owners.ts";
import { createStreamTokenSchema, type StreamToken } from "../protocol/stream-token.ts";
import {
  type Caller,
  CLOCK_TOLERANCE_SECONDS,
  callerOf,
  mayRead,
  mayReadAll,
} from "./auth/caller.ts";
import type { MintStreamToken } from "./auth/stream-token.ts";
import { parseBodyJson, type ReadBody, SMALL_BODY } from "./body.ts";
import { noSuchJob, parseBody } from "./validate.ts";

export type StreamTokensParts = {
  readonly mint: MintStreamToken;
  /** The owners of those jobs that exist. */
  readonly findOwners: FindOwners;
  readonly readBody: ReadBody;
};

/**
 * `POST /v1/stream-tokens`: a token that can only subscribe, for the URL of an `EventSource`, which
 * cannot send headers. It is good until it expires and not just once: `EventSource` reconnects with
 * the URL that it was made with.
 */
export function createStreamTokensRouter(parts: StreamTokensParts): Router {
  const { mint, findOwners, readBody } = parts;

  async function scopeFor(caller: Caller, ids: readonly string[]) {
    const owners = await findOwners(ids, caller.ownerId);
    for (const id of ids) {
      const ownerId = owners.get(id);
      if (ownerId === undefined || !mayRead(caller, { id, ownerId })) {
        throw noSuchJob();
      }
    }
    return ids.some((id) => owners.get(id) !== caller.ownerId) ? "jobs:read" : undefined;
  }

  const router = Router();
  router.post("/v1/stream-tokens", async (req, res) => {
    const caller = callerOf(res);
    const bytes = await readBody(req, res, caller.ownerId, { maxBytes: SMALL_BODY });
    const { jobs, ttlSeconds } = parseBody(
      createStreamTokenSchema,
      parseBodyJson(bytes, req.get("content-type")),
    );
    const scope = jobs && (await scopeFor(caller, jobs));
    const exp = Math.min(
      Math.floor(Date.now() / 1000) + ttlSeconds,
      // It must not outlive the token that asks for it.
      caller.expiresAt / 1000 - CLOCK_TOLERANCE_SECONDS,
    );
    const answer: StreamToken = {
      token: await mint({
        ownerId: caller.ownerId,
        jobs,
        scope,
        isForOneViewer: mayReadAll(caller),
        exp,
      }),
      expiresAt: new Date(exp * 1000).toISOString(),
    };
    res.status(201).set("Cache-Control", "no-store").json(answer);
  });
  return router;
}
