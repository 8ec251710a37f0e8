import type { Request } from "express";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import { JobcastError } from "../errors.ts";
import { addressOf } from "./address.ts";

/** How many are taken within a minute; what is left out is not counted. Each process counts by itself. */
export type RateOptions = {
  /** Of one subject: creations, updates, cancels and the like. */
  readonly writesPerMinute?: number | undefined;
  /** Of one subject: streams and long polls that begin. */
  readonly streamsPerMinute?: number | undefined;
  /** From one address. */
  readonly callbacksPerMinute?: number | undefined;
  /** From one address: after so many tokens that were no good it is not asked for another one. */
  readonly refusalsPerMinute?: number | undefined;
  /** From one address: writes, callbacks and streams together. */
  readonly addressPerMinute?: number | undefined;
  /** Proxies of one's own in front, each of which adds to X-Forwarded-For. Default: 0 */
  readonly trustedProxies?: number | undefined;
};

export type LimitedKind = "write" | "stream" | "callback";

const MINUTE_SECONDS = 60;

/** Who asks too often is told to come back, and costs nothing more than that. */
export class RateLimits {
  readonly #options: RateOptions;
  readonly #limiters: Readonly<Record<LimitedKind, RateLimiterMemory | undefined>>;
  readonly #refusals: RateLimiterMemory | undefined;
  readonly #addresses: RateLimiterMemory | undefined;

  constructor(options: RateOptions) {
    this.#options = options;
    this.#limiters = {
      write: limiterOf(options.writesPerMinute),
      stream: limiterOf(options.streamsPerMinute),
      callback: limiterOf(options.callbacksPerMinute),
    };
    this.#refusals = limiterOf(options.refusalsPerMinute);
    this.#addresses = limiterOf(options.addressPerMinute);
  }

  /**
   * Counts a request.
   * @param subject who asks; undefined where only the address is known
   * @throws {JobcastError} rate_limited
   */
  async take(kind: LimitedKind, req: Request, subject: string | undefined): Promise<void> {
    await consume(this.#addresses, () => this.#addressOf(req));
    await consume(this.#limiters[kind], () => subject ?? this.#addressOf(req));
  }

  /** @throws {JobcastError} rate_limited from an address that sent too many tokens that were no good */
  async assertWelcome(req: Request): Promise<void> {
    const refused = await this.#refusals?.get(this.#addressOf(req));
    if (refused && refused.consumedPoints >= (this.#options.refusalsPerMinute ?? 0)) {
      throw tooMany(refused.msBeforeNext);
    }
  }

  /** A token was no good. */
  async countRefusal(req: Request): Promise<void> {
    await this.#refusals?.penalty(this.#addressOf(req));
  }

  #addressOf(req: Request): string {
    return addressOf(req, this.#options.trustedProxies ?? 0);
  }
}

function limiterOf(points: number | undefined): RateLimiterMemory | undefined {
  return points === undefined
    ? undefined
    : new RateLimiterMemory({ points, duration: MINUTE_SECONDS });
}

async function consume(limiter: RateLimiterMemory | undefined, key: () => string): Promise<void> {
  try {
    await limiter?.consume(key());
  } catch (refused) {
    if (refused instanceof RateLimiterRes) throw tooMany(refused.msBeforeNext);
    throw refused;
  }
}

function tooMany(retryAfterMs: number): JobcastError {
  return new JobcastError("rate_limited", "Too many requests; come back later.", { retryAfterMs });
}
