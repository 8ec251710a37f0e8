import { JobcastError } from "../../errors.ts";
import { callbackSchema } from "../../protocol/callback.ts";
import { toStorable } from "../../protocol/storable.ts";
import { type JsonBody, parseJson } from "../body.ts";
import { isLocked } from "../foreign-errors.ts";
import { type Call, type Reply, reply } from "../operation.ts";
import type { HttpParts } from "../parts.ts";
import { checkBodySize } from "../request-head.ts";
import { noSuchJob, parseBody, parseId } from "../validate.ts";
import { readCredential, unauthenticated } from "./credential.ts";
import { signerOf, webhookIdOf } from "./webhook-signature.ts";

/**
 * Whoever has the token of a job has a part of the room for bodies. Those who say that they have signed
 * share one until they have been read, and have no time to lose: they may be anybody.
 */
const UNVERIFIED = "deliveries that may be signed";
const UNVERIFIED_MS = 10_000;

/**
 * `POST /v1/callbacks/{jobId}`: what an external provider tells of a job. Duplicates, and what
 * comes late or in disorder, change nothing and are still a success: a provider would only send
 * them again. What we could not apply because of us is none, so that it does.
 */
export async function receiveCallback(
  { callbacks: { store, key, secrets }, readBody }: HttpParts,
  { req, res }: Call,
): Promise<Reply> {
  res.set("Cache-Control", "no-store");
  const id = String(req.params["id"]).toLowerCase();
  // Before the body is read: who may say nothing is not listened to.
  const { attempt, head } = readCredential(req, id, {
    key: await key(),
    hasSecrets: secrets.length > 0,
  });
  checkBodySize(req);
  const bytes = head
    ? await readBody(req, res, UNVERIFIED, { withinMs: UNVERIFIED_MS })
    : await readBody(req, res, `callbacks of ${id}`);
  const signer = head && signerOf(secrets, head, bytes);
  if (head && !signer) throw unauthenticated();
  const body = storable(parseJson(bytes));
  const { patch, resultPath } = parseBody(callbackSchema, body);
  const { result: _, ...rest } = patch;
  const applied = await store
    .apply({
      jobId: parseId(req),
      body: body.text,
      patch: JSON.stringify(rest),
      resultPath,
      attempt,
      webhookId: webhookIdOf(req.headers),
      signer: signer?.name,
    })
    .catch((error: unknown) => {
      // A 409 would have the provider give up on what is right.
      if (!isLocked(error)) throw error;
      const message = "The job is locked by another transaction; deliver it again.";
      throw new JobcastError("overloaded", message, { cause: error });
    });
  if (!applied) throw noSuchJob();
  return reply(applied);
}

/** The end of a job must not be lost for a character that cannot be kept. */
function storable(body: JsonBody): JsonBody {
  const text = toStorable(body.text);
  return text === body.text ? body : { text, value: JSON.parse(text) };
}
