import type { Express } from "express";
import { migrate } from "./db/migrate.ts";
import { createPool } from "./db/pool.ts";
import { adoptRestoredHistory } from "./db/restore.ts";
import { createSweeper } from "./db/sweeper.ts";
import { createListener } from "./feed/listener.ts";
import type { Readiness } from "./http/health-routes.ts";
import type { StatisticsSource } from "./http/stats-routes.ts";
import { createLog, type Logger } from "./log.ts";
import { STREAM_DEFAULTS } from "./protocol/stream-defaults.ts";
import { createRoutes } from "./routes.ts";
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

/** Builds the parts that live, and ties them together. */
export function createJobcast(given: JobcastOptions): Jobcast {
  const options = { ...STREAM_DEFAULTS, corsOrigins: [], log: createLog("info"), ...given };
  const { databaseUrl, log } = options;
  const pool = createPool(databaseUrl, {
    onError: (err) => log.warn({ err }, "an idle database connection was lost"),
  });
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
    onEpochChange: () => {
      registry.closeAll("database_changed");
      // It may be a restored one.
      adoptHistory().catch((err) => log.error({ err }, "restored history was not adopted"));
    },
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

  async function adoptHistory(): Promise<void> {
    const adopted = await adoptRestoredHistory(pool);
    if (adopted > 0) log.warn({ adopted }, "history was restored from another cluster");
  }

  function readiness(): Readiness {
    const { isHealthy, ...listening } = listener.state();
    return { ready: phase === "started" && isHealthy, phase, ...listening };
  }

  return {
    app: createRoutes({
      ...options,
      pool,
      hub,
      registry,
      readiness,
      statistics,
      epoch: () => listener.epoch,
    }),
    async start() {
      const migrated = await migrate(pool);
      if (migrated.length > 0) log.info({ migrated }, "the database was migrated");
      await adoptHistory();
      await listener.start();
      registry.start();
      sweeper.start();
      phase = "started";
    },
    async drain(ms) {
      if (phase !== "stopped") phase = "draining";
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
}
