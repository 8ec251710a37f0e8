import { createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

/*
 * Standard Webhooks, 1.0.0. On node:crypto and not by the package of that name, whose SHA-256 is
 * JavaScript: 60 ms of this process for a body of 1 MiB and each secret, which anybody may send.
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */

/** How far the provider's clock may be from ours, either way, and a delivery be under way. */
export const TOLERANCE_SECONDS = 5 * 60;

const PREFIX = "whsec_";

/** What a delivery says of itself beside its body. */
export type SignedHead = {
  /** The same for each redelivery. */
  readonly id: string;
  /** Seconds since the epoch, as the header has them. */
  readonly timestamp: string;
  /** Separated by blanks: `v1,<base64>` and other versions. */
  readonly signatures: string;
};

/** @throws {TypeError} for what is no secret: an empty key would be everybody's. */
export function toWebhookKey(secret: string): Buffer {
  const key = Buffer.from(secret.slice(PREFIX.length), "base64");
  if (secret.startsWith(PREFIX) && key.length >= 24 && key.length <= 64) return key;
  throw new TypeError("a callback secret must be whsec_ and the base64 of 24 to 64 bytes");
}

/** A delivery's own id; [spec] it contains no full stop, which would blur what is signed. */
export function webhookIdOf(headers: IncomingHttpHeaders): string | undefined {
  const id = headers["webhook-id"];
  return typeof id === "string" && /^[^.]{1,255}$/.test(id) ? id : undefined;
}

/** Undefined when a delivery is not signed, or not so that any key could verify it. */
export function signedHeadOf(headers: IncomingHttpHeaders): SignedHead | undefined {
  const id = webhookIdOf(headers);
  const { "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
  if (id === undefined || typeof timestamp !== "string" || typeof signatures !== "string") return;
  return /^\d{1,12}$/.test(timestamp) ? { id, timestamp, signatures } : undefined;
}

/**
 * Whether any of the signatures is of any of the keys: while a secret rotates, a provider signs
 * with two of them, or we know two.
 * @param body the bytes that came, and nothing that was parsed and written again
 * @param now milliseconds since the epoch
 */
export function isSigned(
  keys: readonly Buffer[],
  { id, timestamp, signatures }: SignedHead,
  body: Buffer,
  now: number = Date.now(),
): boolean {
  // Before the signature: it costs nothing, and an old delivery is refused whoever signed it.
  if (Math.abs(Math.floor(now / 1_000) - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const given = signatures
    .split(" ")
    .filter((signature) => signature.startsWith("v1,"))
    .map((signature) => Buffer.from(signature.slice("v1,".length)));
  return keys.some((key) => {
    const hmac = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body);
    const expected = Buffer.from(hmac.digest("base64"));
    return given.some((each) => each.length === expected.length && timingSafeEqual(each, expected));
  });
}
