import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

/*
 * Standard Webhooks, 1.0.0. On node:crypto and not by the package of that name, whose SHA-256 is
 * JavaScript: 60 ms of this process for a body of 1 MiB and each secret, which anybody may send.
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */

/** How far the provider's clock may be from ours, either way, and a delivery be under way. */
export const TOLERANCE_SECONDS = 5 * 60;

const PREFIX = "whsec_";

/** Of one delivery: a secret that rotates makes two. */
const MAX_SIGNATURES = 20;

/** What a delivery says of itself beside its body. */
export type SignedHead = {
  /** The same for each redelivery. */
  readonly id: string;
  /** Seconds since the epoch, as the header has them. */
  readonly timestamp: string;
  /** Separated by blanks: `v1,<base64>` and other versions. */
  readonly signatures: string;
};

/** A secret, and what it is called where it must not be told. */
export type WebhookKey = { readonly name: string; readonly key: Buffer };

/** @throws {TypeError} for what is no secret: an empty key would be everybody's. */
export function toWebhookKey(secret: string): WebhookKey {
  const key = Buffer.from(secret.slice(PREFIX.length), "base64");
  if (!secret.startsWith(PREFIX) || key.length < 24 || key.length > 64) {
    throw new TypeError("a callback secret must be whsec_ and the base64 of 24 to 64 bytes");
  }
  const digest = createHash("sha256").update("jobcast callback secret").update(key).digest("hex");
  return { name: digest.slice(0, 16), key };
}

/** A delivery's own id; [spec] it contains no full stop, which would blur what is signed. */
export function webhookIdOf(headers: IncomingHttpHeaders): string | undefined {
  const id = headers["webhook-id"];
  return typeof id === "string" && /^[^.]{1,255}$/.test(id) ? id : undefined;
}

/**
 * Undefined when a delivery is not signed, or not so that any key could verify it: an old one is
 * refused whoever signed it, before its body is read.
 * @param now milliseconds since the epoch
 */
export function signedHeadOf(
  headers: IncomingHttpHeaders,
  now: number = Date.now(),
): SignedHead | undefined {
  const id = webhookIdOf(headers);
  const { "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
  if (id === undefined || typeof timestamp !== "string" || typeof signatures !== "string") return;
  if (!/^\d{1,12}$/.test(timestamp)) return;
  const age = Math.floor(now / 1_000) - Number(timestamp);
  return Math.abs(age) <= TOLERANCE_SECONDS ? { id, timestamp, signatures } : undefined;
}

/**
 * The first key that any of the signatures is of: while a secret rotates, a provider signs with two
 * of them, or we know two.
 * @param body the bytes that came, and nothing that was parsed and written again
 */
export function signerOf(
  keys: readonly WebhookKey[],
  { id, timestamp, signatures }: SignedHead,
  body: Buffer,
): WebhookKey | undefined {
  const given = signatures
    .split(" ", MAX_SIGNATURES)
    .filter((signature) => signature.startsWith("v1,"))
    .map((signature) => Buffer.from(signature.slice("v1,".length)));
  return keys.find(({ key }) => {
    const hmac = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body);
    const expected = Buffer.from(hmac.digest("base64"));
    return given.some((each) => each.length === expected.length && timingSafeEqual(each, expected));
  });
}
