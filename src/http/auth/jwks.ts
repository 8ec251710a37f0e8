import { createPublicKey, type KeyObject } from "node:crypto";
import { JwksClient } from "jwks-rsa";
import type { Logger } from "pino";
import { JobcastError } from "../../errors.ts";

/** The public key for a token's `kid` and `alg`, or undefined if the set has none. */
export type FindKey = (kid: string | undefined, alg: string) => Promise<KeyObject | undefined>;

type Key = {
  readonly kid: string | undefined;
  readonly alg: string | undefined;
  readonly publicKey: KeyObject;
};

export type JwksOptions = {
  readonly url: string;
  readonly log: Logger;
  /** Milliseconds of a clock that nobody sets; for tests. */
  readonly now?: () => number;
};

/** Keys older than this are read again, while the old ones stay good. */
const REFRESH_MS = 600_000;
/** An unknown `kid` may be a new key or a forgery: they make us ask at most this often. */
const UNKNOWN_KID_MS = 30_000;
/** While there is no key at all everybody waits for the first one. */
const NO_KEYS_MS = 1_000;
const FETCH_TIMEOUT_MS = 5_000;
const MAX_BYTES = 1_048_576;

/** [RFC 7518, 3.3] "A key of size 2048 bits or larger MUST be used": a shorter one can be factored. */
const MIN_RSA_BITS = 2_048;

const monotonic = () => performance.now();

/**
 * The keys of a JSON Web Key Set, which may rotate.
 *
 * jwks-rsa reads and parses the set. Its cache and its rate limit stay off: it keeps single keys
 * and forgets that a `kid` is unknown, so a flood of random ones uses up the limit, and then
 * nobody's real key can be refreshed. Here the set is one thing, good until a newer one is read.
 */
export function createJwks({ url, log, now = monotonic }: JwksOptions): FindKey {
  const client = new JwksClient({
    jwksUri: url,
    cache: false,
    rateLimit: false,
    fetcher: fetchKeySet,
  });
  let keys: readonly Key[] | undefined;
  let hasFailed = false;
  let asking: Promise<void> | undefined;
  let askedAt = Number.NEGATIVE_INFINITY;
  let askedForUnknownAt = Number.NEGATIVE_INFINITY;

  async function read(): Promise<void> {
    try {
      const all = (await client.getSigningKeys()).map((key) => ({
        kid: key.kid,
        alg: key.alg,
        publicKey: createPublicKey(key.getPublicKey()),
      }));
      keys = all.filter(({ publicKey }) => isLongEnough(publicKey));
      if (keys.length < all.length) {
        const kids = all.filter(({ publicKey }) => !isLongEnough(publicKey)).map(({ kid }) => kid);
        log.warn({ kids }, `the key set has RSA keys of fewer than ${MIN_RSA_BITS} bits`);
      }
      hasFailed = false;
    } catch (error) {
      hasFailed = true;
      log.warn({ err: error }, "the JSON Web Key Set cannot be read");
    } finally {
      asking = undefined;
    }
  }

  /** Everybody who needs the set at the same time waits for the same request. */
  function ask(): Promise<void> {
    if (!asking) {
      askedAt = now();
      asking = read();
    }
    return asking;
  }

  function refresh(): void {
    ask().catch((err: unknown) => log.error({ err }, "the JSON Web Key Set was not asked for"));
  }

  function find(kid: string | undefined, alg: string): KeyObject | undefined {
    const fitting = (keys ?? []).filter(
      (key) => isKeyFor(key.publicKey, alg) && (key.alg === undefined || key.alg === alg),
    );
    // Without a `kid` there is nothing to choose by.
    if (kid === undefined) return fitting.length === 1 ? fitting[0]?.publicKey : undefined;
    return fitting.find((key) => key.kid === kid)?.publicKey;
  }

  async function askForUnknown(): Promise<void> {
    if (!keys && now() - askedAt >= NO_KEYS_MS) return ask();
    if (keys && now() - askedForUnknownAt >= UNKNOWN_KID_MS) {
      askedForUnknownAt = now();
      return ask();
    }
    await asking;
  }

  return async (kid, alg) => {
    const known = find(kid, alg);
    if (known) {
      // Not awaited; its failure is logged: the key is good until the set says otherwise.
      if (now() - askedAt >= (hasFailed ? UNKNOWN_KID_MS : REFRESH_MS)) refresh();
      return known;
    }
    await askForUnknown();
    const found = find(kid, alg);
    // While the set cannot be read nobody can say that there is no such key in it.
    if (!found && hasFailed) {
      throw new JobcastError("keys_unavailable", "The keys of the tokens cannot be read just now.");
    }
    return found;
  };
}

/** [RFC 7517, 4.5] Keys of different types may have the same `kid`. */
function isKeyFor({ asymmetricKeyType }: KeyObject, alg: string): boolean {
  return asymmetricKeyType === (alg.startsWith("ES") ? "ec" : "rsa");
}

function isLongEnough({ asymmetricKeyDetails }: KeyObject): boolean {
  const bits = asymmetricKeyDetails?.modulusLength; // of RSA alone
  return bits === undefined || bits >= MIN_RSA_BITS;
}

/** jwks-rsa's own request waits for ever once an answer has begun, and takes any number of bytes. */
async function fetchKeySet(url: string): Promise<{ keys: unknown }> {
  const response = await fetch(url, {
    headers: { accept: "application/jwk-set+json, application/json" },
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
  });
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`its server answered ${response.status}`);
  }
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > MAX_BYTES) throw new Error(`it is longer than ${MAX_BYTES} bytes`);
  }
  return JSON.parse(text);
}
