import type { Express } from "express";
import { pinoHttp } from "pino-http";
import type { EventLog } from "./calm-log.ts";
import { createBatchReader } from "./db/batch-reader.ts";
import { createBatchStore } from "./db/batches.ts";
import { createCallbackStore } from "./db/callbacks.ts";
import { createCreditStore } from "./db/credits.ts";
import { createOwnerReader } from "./db/job-owners.ts";
import { createJobReader } from "./db/job-reader.ts";
import { createJobStore } from "./db/jobs.ts";
import type { Lanes } from "./db/lanes.ts";
import type { Presence } from "./db/presence.ts";
import { createScopeReader } from "./db/scope-reader.ts";
import type { SigningKey } from "./db/signing-key.ts";
import { createApp } from "./http/app.ts";
import { createAuth } from "./http/auth/auth.ts";
import { createStreamTokenMint, type MintStreamToken } from "./http/auth/stream-token.ts";
import type { JwtOptions } from "./http/auth/token-check.ts";
import { createBodyReader } from "./http/body.ts";
import { BodyPlaces } from "./http/body-places.ts";
import { type CallbackLinks, createCallbackLinks } from "./http/callbacks/callback-token.ts";
import { toWebhookKey } from "./http/callbacks/webhook-signature.ts";
import { createDocs } from "./http/docs.ts";
import { askToComeBack } from "./http/events/come-back.ts";
import { createMetrics } from "./http/metrics.ts";
import { RESOURCES } from "./http/operations/all.ts";
import type { HttpParts, Quota, Readiness } from "./http/parts.ts";
import { RateLimits, type RateOptions } from "./http/rate-limits.ts";
import type { StatisticsSource } from "./http/statistics.ts";
import { type Logger, requestLogOptions } from "./log.ts";
import type { Hub } from "./stream/hub.ts";
import type { StreamRegistry } from "./stream/registry.ts";

/** The parts that live, and the settings that the routes need; see JobcastOptions. */
export type RoutesParts = {
  readonly lanes: Lanes;
  readonly streamTokenKey: SigningKey;
  readonly callbackKey: SigningKey;
  /** Undefined: nobody counts who watches. */
  readonly presence: Presence | undefined;
  readonly hub: Hub;
  readonly registry: StreamRegistry;
  readonly readiness: () => Readiness;
  readonly statistics: StatisticsSource;
  readonly epoch: () => string;
  readonly jwt: JwtOptions;
  readonly publicUrl?: string | undefined;
  readonly corsOrigins: readonly string[];
  readonly callbackSecrets: readonly string[];
  readonly streamBufferBytes: number;
  readonly limits: RateOptions & Quota;
  readonly log: EventLog;
  /** For a line about each request. */
  readonly requestLog: Logger;
};

/** The HTTP side, and what of it is of use without a request. */
export type Routes = {
  readonly app: Express;
  readonly mintStreamToken: MintStreamToken;
  readonly callbackLink: CallbackLinks;
};

/** Every operation with the stores that it works with. */
export function createRoutes(parts: RoutesParts): Routes {
  const { lanes, registry, statistics, publicUrl, corsOrigins, log } = parts;
  const streamReads = lanes.streams.for({});
  const { streamTokenKey } = parts;
  const callbackKey = () => parts.callbackKey.read();
  const http: HttpParts = {
    publicUrl,
    readBody: createBodyReader(new BodyPlaces()),
    jobs: createJobStore(lanes),
    quota: parts.limits,
    batches: createBatchStore(lanes),
    credits: createCreditStore(lanes),
    findOwners: createOwnerReader(lanes.reads),
    epoch: parts.epoch,
    presence: parts.presence,
    events: {
      hub: parts.hub,
      registry,
      jobReader: createJobReader(streamReads),
      scopeReader: createScopeReader(lanes.streams),
      batchReader: createBatchReader(streamReads),
      findOwners: createOwnerReader(lanes.streams),
      epoch: parts.epoch,
      presence: parts.presence,
      bufferBytes: parts.streamBufferBytes,
      onError: (err) => log.warn({ err }, "a read for a stream failed; trying again"),
      onFailure: (err) => log.error({ err }, "a stream failed"),
    },
    mintStreamToken: createStreamTokenMint(() => streamTokenKey.read()),
    callbackLink: createCallbackLinks({ key: callbackKey }),
    callbacks: {
      store: createCallbackStore(lanes),
      key: callbackKey,
      secrets: parts.callbackSecrets.map(toWebhookKey),
    },
    readiness: parts.readiness,
    statistics,
    metrics: createMetrics(statistics),
    docs: createDocs(RESOURCES),
  };
  const operations = RESOURCES.flatMap((resource) => resource.operations);
  const limits = new RateLimits(parts.limits);
  const app = createApp(operations, http, {
    log,
    limits,
    corsOrigins,
    unsent: registry.unsent,
    requestLog: pinoHttp({ ...requestLogOptions, logger: parts.requestLog }),
    auth: createAuth({ jwt: parts.jwt, streamTokenKey, publicUrl, corsOrigins, log, limits }),
    streamErrors: askToComeBack(registry, (err) =>
      log.warn({ err }, "an event stream was put off"),
    ),
  });
  return { app, mintStreamToken: http.mintStreamToken, callbackLink: http.callbackLink };
}
