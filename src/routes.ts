import type { Express } from "express";
import { pinoHttp } from "pino-http";
import { createBatchReader } from "./db/batch-reader.ts";
import { createBatchStore } from "./db/batches.ts";
import { createCallbackStore } from "./db/callbacks.ts";
import { createCreditStore } from "./db/credits.ts";
import { createOwnerReader } from "./db/job-owners.ts";
import { createJobReader } from "./db/job-reader.ts";
import { createJobStore } from "./db/jobs.ts";
import type { Lanes } from "./db/lanes.ts";
import { createScopeReader } from "./db/scope-reader.ts";
import { createSigningKey } from "./db/signing-key.ts";
import { createApp } from "./http/app.ts";
import { createAuth } from "./http/auth/auth.ts";
import { createStreamTokenMint } from "./http/auth/stream-token.ts";
import type { JwtOptions } from "./http/auth/token-check.ts";
import { createBatchesRouter } from "./http/batches-routes.ts";
import { createBodyReader } from "./http/body.ts";
import { BodyPlaces } from "./http/body-places.ts";
import { createCallbackLinks } from "./http/callbacks/callback-token.ts";
import { createCallbacksRouter } from "./http/callbacks/callbacks-routes.ts";
import { createCreditsRouter } from "./http/credits-routes.ts";
import { createDocsRouter } from "./http/docs-routes.ts";
import { askToComeBack } from "./http/events/come-back.ts";
import { createEventsRouter } from "./http/events/events-routes.ts";
import { createHealthRouter, type Readiness } from "./http/health-routes.ts";
import { createJobUpdatesRouter } from "./http/job-updates-routes.ts";
import { createJobsRouter } from "./http/jobs-routes.ts";
import { createMetricsRouter } from "./http/metrics-routes.ts";
import { createStatsRouter, type StatisticsSource } from "./http/stats-routes.ts";
import { createStreamTokensRouter } from "./http/stream-tokens-routes.ts";
import { type Logger, requestLogOptions } from "./log.ts";
import type { Hub } from "./stream/hub.ts";
import type { StreamRegistry } from "./stream/registry.ts";

/** The parts that live, and the settings that the routes need; see JobcastOptions. */
export type RoutesParts = {
  readonly lanes: Lanes;
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
  readonly log: Logger;
};

/** Every route with the stores that it works with. */
export function createRoutes(parts: RoutesParts): Express {
  const { lanes, statistics, publicUrl, corsOrigins, log } = parts;
  const jobs = createJobStore(lanes);
  const ownReads = lanes.service.for({});
  const streamTokenKey = createSigningKey(ownReads, "stream tokens");
  const callbackKey = createSigningKey(ownReads, "callback tokens");
  const callbackLink = createCallbackLinks({ key: callbackKey, publicUrl });
  const readBody = createBodyReader(new BodyPlaces());
  const streamReads = lanes.streams.for({});
  return createApp({
    log,
    corsOrigins,
    unsent: parts.registry.unsent,
    requestLog: pinoHttp({ ...requestLogOptions, logger: log }),
    auth: createAuth({ jwt: parts.jwt, streamTokenKey, publicUrl, corsOrigins, log }),
    streamErrors: askToComeBack(parts.registry, (err, reason) =>
      log.warn({ err, reason }, "an event stream was put off"),
    ),
    routers: {
      open: [
        createHealthRouter({ readiness: parts.readiness }),
        createMetricsRouter(statistics),
        createDocsRouter({ publicUrl }),
        createCallbacksRouter({
          callbacks: createCallbackStore(lanes),
          key: callbackKey,
          secrets: parts.callbackSecrets,
          readBody,
        }),
      ],
      streams: [
        createEventsRouter({
          hub: parts.hub,
          registry: parts.registry,
          jobReader: createJobReader(streamReads),
          scopeReader: createScopeReader(lanes.streams),
          batchReader: createBatchReader(streamReads),
          findOwners: createOwnerReader(lanes.streams),
          epoch: parts.epoch,
          bufferBytes: parts.streamBufferBytes,
          onError: (err) => log.warn({ err }, "a read for a stream failed; trying again"),
          onFailure: (err) => log.error({ err }, "a stream failed"),
        }),
      ],
      api: [
        createStatsRouter(statistics),
        createJobsRouter({ jobs, callbackLink, readBody, publicUrl }),
        createJobUpdatesRouter({ jobs, readBody, publicUrl }),
        createBatchesRouter({
          batches: createBatchStore(lanes),
          callbackLink,
          readBody,
          publicUrl,
        }),
        createCreditsRouter({ credits: createCreditStore(lanes), readBody }),
        createStreamTokensRouter({
          mint: createStreamTokenMint(streamTokenKey),
          findOwners: createOwnerReader(lanes.reads),
          readBody,
        }),
      ],
    },
  });
}
