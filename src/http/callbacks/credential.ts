import type { Request } from "express";
import { JobcastError } from "../../errors.ts";
import { readCallbackToken } from "./callback-token.ts";
import { type SignedHead, signedHeadOf } from "./webhook-signature.ts";

/**
 * What a delivery shows before its body is read, and the attempt that it is for: a token, which is
 * enough, or what a signature has yet to prove about the body.
 */
export type Credential = { readonly attempt: number; readonly head: SignedHead | undefined };

/** What a signed delivery is for that does not say: the first, for which every job has a URL. */
const FIRST_ATTEMPT = 1;

/**
 * A signature is of the bytes and says nothing of the job: the URL does, with a token, be it an old
 * one, or by `?attempt=`, which the provider was given.
 *
 * @throws {JobcastError} unauthenticated
 */
export function readCredential(
  req: Request,
  jobId: string,
  { key, hasSecrets }: { key: Buffer; hasSecrets: boolean },
): Credential {
  const given = req.get("x-callback-token") ?? req.query["token"];
  const token = typeof given === "string" ? readCallbackToken(key, jobId, given) : undefined;
  if (token && !token.isExpired) return { attempt: token.attempt, head: undefined };
  const head = hasSecrets ? signedHeadOf(req.headers) : undefined;
  if (!head) throw unauthenticated();
  return { attempt: token?.attempt ?? namedAttempt(req) ?? FIRST_ATTEMPT, head };
}

export function unauthenticated(): JobcastError {
  return new JobcastError("unauthenticated", "The callback has no valid token or signature.");
}

function namedAttempt(req: Request): number | undefined {
  const { attempt } = req.query;
  if (attempt === undefined) return undefined;
  if (typeof attempt === "string" && /^[1-9]\d{0,8}$/.test(attempt)) return Number(attempt);
  throw new JobcastError("invalid_request", "The query of the request is not valid.", {
    fields: [{ path: "query.attempt", message: "must be the number of an attempt" }],
  });
}
