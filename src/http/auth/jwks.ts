import { createPublicKey, type JsonWebKey, type KeyObject } from "node:crypto";
import { z } from "zod";
import type { EventLog } from "../../calm-log.ts";
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
  readonly log: EventLog;
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

/** A type of key as Node calls it, and its curve where there are several. */
type KeyKind = { readonly type: string; readonly curve?: string };

const RSA: KeyKind = { type: "rsa" };
const ED25519: KeyKind = { type: "ed25519" };

/** [RFC 7518, 3.1; RFC 8037; RFC 9864] What signs with which key. */
const KEYS_OF: ReadonlyMap<string, KeyKind> = new Map<string, KeyKind>([
  ...["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map((alg) => [alg, RSA] as const),
  ["ES256", { type: "ec", curve: "prime256v1" }],
  ["ES384", { type: "ec", curve: "secp384r1" }],
  ["ES512", { type: "ec", curve: "secp521r1" }],
  ["EdDSA", ED25519],
  ["Ed25519", ED25519],
]);

/** A set may hold keys that nobody here can use: for encryption, of a type yet to be invented. */
const keySetSchema = z.object({ keys: z.array(z.unknown()) });
const keySchema = z.looseObject({
  kid: z.string().optional(),
  alg: z.string().optional(),
  use: z.literal("sig").optional(),
});

const monotonic = () => performance.now();

/**
 * The keys of a JSON Web Key Set, which may rotate. The set is one thing, good until a newer one is
 * read. jose's own keeps one limit for all: a flood of unknown `kid`s uses it up, and while the set
 * cannot be read old keys are no good.
 */
export function createJwks({ url, log, now = monotonic }: JwksOptions): FindKey {
  let keys: readonly Key[] | undefined;
  let hasFailed = false;
  let asking: Promise<void> | undefined;
  let askedAt = Number.NEGATIVE_INFINITY;
  let askedForUnknownAt = Number.NEGATIVE_INFINITY;

  async function read(): Promise<void> {
    try {
      const all = parseKeySet(await fetchKeySet(url));
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
      (key) => isKeyFor(key.publicKey, alg) && (key.alg === undefined || isSame(key.alg, alg)),
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
    if (!KEYS_OF.has(alg)) return undefined;
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

/** @throws {Error} for what is no set, or has no key that one could use */
function parseKeySet(answer: unknown): Key[] {
  const keys = keySetSchema.parse(answer).keys.flatMap((each) => {
    const key = keySchema.safeParse(each).data;
    const publicKey = key && toPublicKey(key as JsonWebKey);
    return publicKey ? [{ kid: key.kid, alg: key.alg, publicKey }] : [];
  });
  if (keys.length === 0) throw new Error("it has no public key for signatures");
  return keys;
}

function toPublicKey(key: JsonWebKey): KeyObject | undefined {
  try {
    return createPublicKey({ key, format: "jwk" });
  } catch {
    return undefined; // none, or none that Node knows
  }
}

/** [RFC 7517, 4.5] Keys of different types may have the same `kid`. */
function isKeyFor({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject, alg: string): boolean {
  const { type, curve } = KEYS_OF.get(alg) ?? {};
  return asymmetricKeyType === type && asymmetricKeyDetails?.namedCurve === curve;
}

/** Both names of the one algorithm are in use. */
function isSame(alg: string, other: string): boolean {
  return alg === other || (KEYS_OF.get(alg) === ED25519 && KEYS_OF.get(other) === ED25519);
}

function isLongEnough({ asymmetricKeyDetails }: KeyObject): boolean {
  const bits = asymmetricKeyDetails?.modulusLength; // of RSA alone
  return bits === undefined || bits >= MIN_RSA_BITS;
}

/** Bounded in time and in bytes. */
async function fetchKeySet(url: string): Promise<unknown> {
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
