import type { Express } from "express";
import type { Pool } from "pg";
import { pinoHttp } from "pino-http";
import { createBatchReader } from "./db/batch-reader.ts";
import { createBatchStore } from "./db/batches.ts";
import { createCallbackStore } from "./db/callbacks.ts";
import { createCreditStore } from "./db/credits.ts";
import { createDatabase } from "./db/database.ts";
import { createOwnerReader } from "./db/job-owners.ts";
import { createJobReader } from "./db/job-reader.ts";
import { createJobStore } from "./db/jobs.ts";
import { createScopeReader } from "./db/scope-reader.ts";
import { createSigningKey } from "./db/signing-key.ts";
import { createApp } from "./http/app.ts";
import { createAuth } from "./http/auth/auth.ts";
import { createStreamTokenMint } from "./http/auth/stream-token.ts";
import type { JwtOptions } from "./http/auth/token-check.ts";
import { createBatchesRouter } from "./http/batches-routes.ts";
import { createCallbackLinks } from "./http/callbacks/callback-token.ts";
import { createCallbacksRouter } from "./http/callbacks/callbacks-routes.ts";
import { createCreditsRouter } from "./http/credits-routes.ts";
import { createDocsRouter } from "./http/docs-routes.ts";
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
  readonly pool: Pool;
  readonly hub: Hub;
  readonly registry: StreamRegistry;
  readonly readiness: () => Readiness;
  readonly statistics: StatisticsSource;
  readonly epoch: () => string;
  readonly jwt: JwtOptions;
  readonly publicUrl?: string | undefined;
  readonly corsOrigins: readonly string[];
  readonly callbackSecrets?: readonly string[] | undefined;
  readonly streamBufferBytes: number;
  readonly log: Logger;
};

/** Every route with the stores that it works with. */
export function createRoutes(parts: RoutesParts): Express {
  const { pool, statistics, publicUrl, corsOrigins, log } = parts;
  const db = createDatabase(pool);
  const jobs = createJobStore(db);
  const streamTokenKey = createSigningKey(pool, "stream tokens");
  const callbackKey = createSigningKey(pool, "callback tokens");
  const callbackLink = createCallbackLinks({ key: callbackKey, publicUrl });
  return createApp({
    log,
    corsOrigins,
    requestLog: pinoHttp({ ...requestLogOptions, logger: log }),
    auth: createAuth({ jwt: parts.jwt, streamTokenKey, publicUrl, corsOrigins, log }),
    routers: {
      open: [
        createHealthRouter({ readiness: parts.readiness }),
        createMetricsRouter(statistics),
        createDocsRouter({ publicUrl }),
        createCallbacksRouter({
          callbacks: createCallbackStore(db),
          key: callbackKey,
          secrets: parts.callbackSecrets ?? [],
        }),
      ],
      streams: [
        createEventsRouter({
          hub: parts.hub,
          registry: parts.registry,
          jobReader: createJobReader(pool),
          scopeReader: createScopeReader(pool),
          batchReader: createBatchReader(pool),
          epoch: parts.epoch,
          bufferBytes: parts.streamBufferBytes,
          onError: (err) => log.warn({ err }, "a read for a stream failed; trying again"),
        }),
      ],
      api: [
        createStatsRouter(statistics),
        createJobsRouter({ jobs, callbackLink, publicUrl }),
        createJobUpdatesRouter({ jobs, publicUrl }),
        createBatchesRouter({ batches: createBatchStore(db), callbackLink, publicUrl }),
        createCreditsRouter({ credits: createCreditStore(db) }),
        createStreamTokensRouter({
          mint: createStreamTokenMint(streamTokenKey),
          findOwners: createOwnerReader(db),
        }),
      ],
    },
  });
}
