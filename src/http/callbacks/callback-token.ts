import { createHmac, timingSafeEqual } from "node:crypto";

/** How long a provider may take: more than its job, less than for ever. Seconds. */
const LIFE_SECONDS = 7 * 24 * 3_600;

/** `<attempt>.<expiry in base 36>.<HMAC-SHA256 in base64url>`; the expiry in seconds. */
const TOKEN = /^(\d{1,10})\.([\da-z]{1,10})\.([\w-]{43})$/;

/** @param baseUrl where providers reach this server, without a slash at the end; or a path */
export type CallbackLinks = (
  job: { readonly id: string; readonly attempt: number },
  baseUrl: string,
) => Promise<string>;

export type CallbackLinksParts = {
  /** What all processes on one database sign with. */
  readonly key: () => Promise<Buffer>;
  /** Default: a week. */
  readonly lifeSeconds?: number | undefined;
};

/**
 * The URL that a provider is to call back, good for the job's present attempt: what a provider of
 * an older attempt still sends changes nothing. Whoever has the URL can write the job.
 */
export function createCallbackLinks({
  key,
  lifeSeconds = LIFE_SECONDS,
}: CallbackLinksParts): CallbackLinks {
  return async ({ id, attempt }, baseUrl) => {
    const expiry = (Math.floor(Date.now() / 1_000) + lifeSeconds).toString(36);
    const signature = sign(await key(), id, String(attempt), expiry);
    return `${baseUrl}/v1/callbacks/${id}?token=${attempt}.${expiry}.${signature}`;
  };
}

/** What a token of ours says: the attempt that it is for, and whether its time is over. */
export type CallbackToken = { readonly attempt: number; readonly isExpired: boolean };

/** Undefined when it is wrong, or another job's. */
export function readCallbackToken(
  key: Buffer,
  jobId: string,
  token: string,
): CallbackToken | undefined {
  const [, attempt = "", expiry = "", signature = ""] = TOKEN.exec(token) ?? [];
  const expected = Buffer.from(sign(key, jobId, attempt, expiry));
  const given = Buffer.from(signature);
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
  // What follows is what we signed.
  const isExpired = Number.parseInt(expiry, 36) <= Date.now() / 1_000;
  return { attempt: Number(attempt), isExpired };
}

function sign(key: Buffer, jobId: string, attempt: string, expiry: string): string {
  return createHmac("sha256", key).update(`${jobId}.${attempt}.${expiry}`).digest("base64url");
}
