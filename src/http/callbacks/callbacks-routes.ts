import express, { type Request, type Response, type Router } from "express";
import type { CallbackStore } from "../../db/callbacks.ts";
import { JobcastError } from "../../errors.ts";
import { callbackSchema } from "../../protocol/callback.ts";
import { checkBodySize, MAX_BODY } from "../request-head.ts";
import { noSuchJob, parseBody, parseJobId } from "../validate.ts";
import { readCallbackToken } from "./callback-token.ts";
import {
  isSigned,
  type SignedHead,
  signedHeadOf,
  toWebhookKey,
  webhookIdOf,
} from "./webhook-signature.ts";

export type CallbacksRouterParts = {
  readonly callbacks: CallbackStore;
  /** What the tokens in the callback URLs are signed with. */
  readonly key: () => Promise<Buffer>;
  /** Of providers that sign after Standard Webhooks: `whsec_` and base64, each. */
  readonly secrets: readonly string[];
};

/** The attempt that a token is for, or what a signature has yet to prove about the body. */
type Credential = { readonly attempt: number } | SignedHead;

const readRaw = express.raw({ type: () => true, limit: MAX_BODY });

/**
 * `POST /v1/callbacks/{jobId}`: what an external provider tells of a job. Duplicates, and what
 * comes late or in disorder, change nothing and are still a success: a provider would only send
 * them again. What we could not apply because of us is none, so that it does.
 */
export function createCallbacksRouter({ callbacks, key, secrets }: CallbacksRouterParts): Router {
  const keys = secrets.map(toWebhookKey);
  const router = express.Router();

  /** By the token, which is for one job, whether there is one or not; else by the signature. */
  async function readCredential(req: Request): Promise<Credential> {
    const token = req.get("x-callback-token") ?? req.query["token"];
    const jobId = String(req.params["id"]).toLowerCase();
    const attempt =
      typeof token === "string" ? readCallbackToken(await key(), jobId, token) : undefined;
    const credential =
      attempt === undefined ? keys.length > 0 && signedHeadOf(req.headers) : { attempt };
    if (!credential) throw unauthenticated();
    return credential;
  }

  router.post("/v1/callbacks/:id", async (req, res) => {
    res.set("Cache-Control", "no-store");
    // Before the body is read: who may say nothing is not listened to.
    const credential = await readCredential(req);
    checkBodySize(req);
    const body = await readBody(req, res);
    if ("signatures" in credential && !isSigned(keys, credential, body)) throw unauthenticated();
    req.body = parseJson(body);
    const result = await callbacks.apply({
      jobId: parseJobId(req),
      patch: parseBody(callbackSchema, req),
      attempt: "attempt" in credential ? credential.attempt : undefined,
      webhookId: webhookIdOf(req.headers),
    });
    if (!result) throw noSuchJob();
    res.json(result);
  });

  return router;
}

/** The bytes as they came: a signature is of them, and not of what a parser made of them. */
async function readBody(req: Request, res: Response): Promise<Buffer> {
  await new Promise<void>((resolve, reject) => {
    readRaw(req, res, (error) => (error === undefined ? resolve() : reject(error)));
  });
  return Buffer.isBuffer(req.body) ? req.body : Buffer.alloc(0);
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (error) {
    throw notJson(error);
  }
}

function notJson(cause: unknown): JobcastError {
  return new JobcastError("invalid_json", "The body of the request is not JSON.", { cause });
}

function unauthenticated(): JobcastError {
  return new JobcastError("unauthenticated", "The callback has no valid token or signature.");
}
