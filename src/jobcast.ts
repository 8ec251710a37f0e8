import type { Express } from "express";
import { pinoHttp } from "pino-http";
import { createBatchReader } from "./db/batch-reader.ts";
import { createBatchStore } from "./db/batches.ts";
import { createCallbackStore } from "./db/callbacks.ts";
import { createCreditStore } from "./db/credits.ts";
import { createDatabase } from "./db/database.ts";
import { createOwnerReader } from "./db/job-owners.ts";
import { createJobReader } from "./db/job-reader.ts";
import { createJobStore } from "./db/jobs.ts";
import { migrate } from "./db/migrate.ts";
import { createPool } from "./db/pool.ts";
import { adoptRestoredHistory } from "./db/restore.ts";
import { createScopeReader } from "./db/scope-reader.ts";
import { createSigningKey } from "./db/signing-key.ts";
import { createSweeper } from "./db/sweeper.ts";
import { createListener } from "./feed/listener.ts";
import { createApp } from "./http/app.ts";
import { createAuth } from "./http/auth/auth.ts";
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
import { createStreamTokenMint } from "./http/auth/stream-token.ts";
import { createStreamTokensRouter } from "./http/stream-tokens-routes.ts";
import { createLog, type Logger, requestLogOptions } from "./log.ts";
import { STREAM_DEFAULTS } from "./protocol/stream-defaults.ts";
import { Hub } from "./stream/hub.ts";
import { StreamRegistry, type StreamStatistics } from "./stream/registry.ts";

/** Units and defaults are those of the environment variables of the same names: see .env.example. */
export type JobcastOptions = {
  readonly databaseUrl: string;
  readonly listenDatabaseUrl?: string | undefined;
  readonly feed?: "auto" | "bell" | "poll" | undefined;
  readonly jwt: {
    readonly secret?: string | undefined;
    readonly jwksUrl?: string | undefined;
    readonly issuer?: string | undefined;
    readonly audience?: string | undefined;
  };
  readonly publicUrl?: string | undefined;
  /** Of providers that sign their callbacks after Standard Webhooks, each with `whsec_` in front. */
  readonly callbackSecrets?: readonly string[] | undefined;
  readonly corsOrigins?: readonly string[];
  /** Default: a log of its own on the standard output, from level `info` on. */
  readonly log?: Logger;
} & { readonly [Key in keyof typeof STREAM_DEFAULTS]?: number };

export type Jobcast = {
  /** Every route; it listens to nothing. */
  readonly app: Express;
  /** Migrates, takes the first snapshot and begins to listen. Rejects when it cannot. */
  start(): Promise<void>;
  /** Not ready, no new streams, the open ones ended evenly over `ms`. */
  drain(ms: number): Promise<void>;
  /** After the drain: the listener, then the pool. Safe to call twice, and without a start. */
  stop(): Promise<void>;
  /** The streams and long polls that are open, and what became of those before. */
  statistics(): StreamStatistics;
};

/** Builds every part and ties them together; nothing else knows all of them. */
export function createJobcast(given: JobcastOptions): Jobcast {
  const options = { ...STREAM_DEFAULTS, corsOrigins: [], log: createLog("info"), ...given };
  const { databaseUrl, log } = options;
  const pool = createPool(databaseUrl, {
    onError: (err) => log.warn({ err }, "an idle database connection was lost"),
  });
  const db = createDatabase(pool);
  const hub = new Hub((err) => log.error({ err }, "a subscriber failed"));
  const registry = new StreamRegistry({
    heartbeatMs: options.heartbeatSeconds * 1_000,
    retryMs: options.retryMs,
    maxStreams: options.maxStreams,
    maxStreamsPerOwner: options.maxStreamsPerOwner,
    maxStreamMs: options.maxStreamSeconds * 1_000,
  });
  let changesRead = 0;
  const listener = createListener({
    connectionString: options.listenDatabaseUrl ?? databaseUrl,
    mode: options.feed === "poll" ? "poll" : "bell",
    pool,
    onPage: ({ changes, snapshot }) => {
      changesRead += changes.length;
      hub.publish(changes, snapshot);
    },
    onEpochChange: () => registry.closeAll("database_changed"),
    log,
  });
  const sweeper = createSweeper(pool, log);
  let phase: "new" | "started" | "draining" | "stopped" = "new";

  const statistics: StatisticsSource = {
    streams: () => registry.statistics(),
    subscriptions: () => ({ topics: hub.topicCount, subscribers: hub.subscriberCount }),
    listener: () => listener.state(),
    changes: () => changesRead,
  };

  function readiness(): Readiness {
    const { isHealthy, ...listening } = listener.state();
    return { ready: phase === "started" && isHealthy, phase, ...listening };
  }

  return {
    app: createRoutes(),
    async start() {
      const migrated = await migrate(pool);
      if (migrated.length > 0) log.info({ migrated }, "the database was migrated");
      const adopted = await adoptRestoredHistory(pool);
      if (adopted > 0) log.warn({ adopted }, "history was restored from another cluster");
      await listener.start();
      registry.start();
      sweeper.start();
      phase = "started";
    },
    async drain(ms) {
      phase = "draining";
      await registry.drain(ms);
    },
    async stop() {
      if (phase === "stopped") return;
      phase = "stopped";
      registry.stop();
      // The pool with them: it cuts what hangs, and the sweeper waits for its query.
      await Promise.all([sweeper.stop(), listener.stop(), pool.end()]);
    },
    statistics: () => registry.statistics(),
  };

  function createRoutes(): Express {
    const { corsOrigins, publicUrl, jwt } = options;
    const streamTokenKey = createSigningKey(pool, "stream tokens");
    const callbackKey = createSigningKey(pool, "callback tokens");
    const callbackLink = createCallbackLinks({ key: callbackKey, publicUrl });
    const jobs = createJobStore(db);
    return createApp({
      log,
      corsOrigins,
      requestLog: pinoHttp({ ...requestLogOptions, logger: log }),
      auth: createAuth({ jwt, streamTokenKey, publicUrl, corsOrigins, log }),
      routers: {
        open: [
          createHealthRouter({ readiness }),
          createMetricsRouter(statistics),
          createDocsRouter({ publicUrl }),
          createCallbacksRouter({
            callbacks: createCallbackStore(db),
            key: callbackKey,
            secrets: options.callbackSecrets ?? [],
          }),
        ],
        streams: [
          createEventsRouter({
            hub,
            registry,
            jobReader: createJobReader(pool),
            scopeReader: createScopeReader(pool),
            batchReader: createBatchReader(pool),
            epoch: () => listener.epoch,
            bufferBytes: options.streamBufferBytes,
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
}
