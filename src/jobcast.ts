import type { IncomingMessage, ServerResponse } from "node:http";
import { calm } from "./calm-log.ts";
import { Lanes } from "./db/lanes.ts";
import { assertMigrated, migrate } from "./db/migrate.ts";
import { createPresence } from "./db/presence.ts";
import { adoptRestoredHistory } from "./db/restore.ts";
import { createRetention } from "./db/retention.ts";
import { SigningKey } from "./db/signing-key.ts";
import { createSweeper } from "./db/sweeper.ts";
import { createListener } from "./feed/listener.ts";
import type { StatisticsSource } from "./http/statistics.ts";
import { createLog, type Logger } from "./log.ts";
import { shareOpenFiles } from "./open-files.ts";
import { type GivenOptions, parseOptions } from "./options.ts";
import { logReadiness, type Phase, readinessOf } from "./readiness.ts";
import { createRoutes } from "./routes.ts";
import { Hub } from "./stream/hub.ts";
import { StreamRegistry, type StreamStatistics } from "./stream/registry.ts";

export { MAX_HEADERS } from "./http/limits.ts";

/**
 * Units and defaults are those of the environment variables of the same names: see .env.example.
 * `log` defaults to one of its own on the standard output, from level `info` on.
 */
export type JobcastOptions = GivenOptions & { readonly log?: Logger };

/** What Node's server calls, and what Express mounts. */
export type RequestHandler = (
  req: IncomingMessage,
  res: ServerResponse,
  next?: (error?: unknown) => void,
) => void;

export type StreamTokenGrant = {
  readonly ownerId: string;
  /** The jobs that it may watch, whoever owns them. Default: all of the owner's */
  readonly jobs?: readonly string[];
  /** The batch that it may watch instead, whoever owns it, with its jobs. */
  readonly batchId?: string;
  /** How long it is good for. Default: 300 */
  readonly ttlSeconds?: number;
};

export type Jobcast = {
  /** Every route, for `app.use` of Express or `createServer` of Node; it listens to nothing. */
  readonly app: RequestHandler;
  /**
   * Migrates, takes the first snapshot and begins to listen. Rejects when it cannot, and when the
   * signal aborts it or `stop` is called, at every moment.
   */
  start(options?: { signal?: AbortSignal }): Promise<void>;
  /** Not ready, no new streams, the open ones ended evenly over `ms`. */
  drain(ms: number): Promise<void>;
  /**
   * Ends the streams that are still open, then the listener and the connections. Safe to call twice,
   * and without a start.
   */
  stop(): Promise<void>;
  /**
   * A token that can do nothing but subscribe, for one viewer: for the URL of an `EventSource`, which
   * sends no headers.
   */
  streamToken(grant: StreamTokenGrant): Promise<string>;
  /**
   * Where a provider may report on the present attempt of a job, for a week. Whoever has it can write
   * the job. From the root of the host unless there is a `publicUrl`.
   */
  callbackUrl(job: { readonly id: string; readonly attempt: number }): Promise<string>;
  /** The streams and long polls that are open, and what became of those before. */
  statistics(): StreamStatistics;
};

/**
 * Builds the parts that live, and ties them together.
 * @throws {ConfigError} naming every option that is wrong
 */
export function createJobcast({
  log: requestLog = createLog("info"),
  ...given
}: JobcastOptions): Jobcast {
  const log = calm(requestLog);
  const options = parseOptions(given);
  const { databaseUrl } = options;
  const lanes = new Lanes({
    connectionString: databaseUrl,
    size: options.databasePoolSize,
    onError: (err) => log.warn({ err }, "an idle database connection was lost"),
  });
  const hub = new Hub((err) => log.error({ err }, "a subscriber failed"));
  const files = shareOpenFiles(options.databasePoolSize);
  const maxStreams = Math.min(options.maxStreams, files.streams);
  const registry = new StreamRegistry({
    heartbeatMs: options.heartbeatSeconds * 1_000,
    retryMs: options.retryMs,
    maxStreams,
    maxStreamsPerOwner: options.maxStreamsPerOwner,
    maxStreamMs: options.maxStreamSeconds * 1_000,
    maxUnsentBytes: options.totalBufferBytes,
  });
  let changesRead = 0;
  const listener = createListener({
    databaseUrl,
    listenDatabaseUrl: options.listenDatabaseUrl ?? databaseUrl,
    mode: options.feed === "poll" ? "poll" : "bell",
    lane: lanes.service,
    isWatched: (news) => hub.isWatched(news),
    onPage: ({ changes, snapshot }) => {
      changesRead += changes.length;
      hub.publish(changes, snapshot);
    },
    onEpochChange: () => {
      registry.closeAll("database_changed");
      // It may be a restored one.
      adoptHistory().catch((err) => log.error({ err }, "restored history was not adopted"));
    },
    onSplit: () => lanes.renew(),
    migrate: prepareDatabase,
    log,
  });
  const ownQuery = lanes.service.for({});
  const streamTokenKey = new SigningKey(ownQuery, "stream tokens");
  const callbackKey = new SigningKey(ownQuery, "callback tokens");
  const sweeper = createSweeper(lanes.service, log);
  const retention = createRetention(lanes.service, options.retention, log);
  const presence = options.presence === "on" ? createPresence(lanes, log) : undefined;
  const stopping = new AbortController();
  let phase: Phase = "new";
  let stopLogging: (() => void) | undefined;
  const readiness = () => readinessOf(phase, listener, lanes);

  const statistics: StatisticsSource = {
    streams: () => registry.statistics(),
    subscriptions: () => ({ topics: hub.topicCount, subscribers: hub.subscriberCount }),
    listener: () => listener.state(),
    changes: () => changesRead,
    lanes: () => lanes.state(),
    unsentBytes: () => registry.unsent.total,
    retention: () => retention.state(),
  };

  async function prepareDatabase(signal: AbortSignal): Promise<void> {
    // Who is in the way is named each time.
    const how = { connectionString: databaseUrl, signal, log: requestLog };
    if (options.migrate === "off") return assertMigrated(how);
    const migrated = await migrate(how);
    if (migrated.length > 0) log.info({ migrated }, "the database was migrated");
  }

  async function adoptHistory(): Promise<void> {
    const adopted = await adoptRestoredHistory(lanes.service, stopping.signal);
    if (adopted > 0) log.warn({ adopted }, "history was restored from another cluster");
  }

  async function start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    // Whatever a step waits for: it rejects.
    const giveUp = () => {
      endParts().catch((err) => log.error({ err }, "the start was not ended in good order"));
    };
    signal.addEventListener("abort", giveUp);
    try {
      await prepareDatabase(signal);
      if (maxStreams < options.maxStreams) {
        log.info(
          { openFiles: files.limit, maxStreams },
          "fewer streams than MAX_STREAMS: ulimit -n, or memory",
        );
      }
      await adoptHistory();
      await listener.start();
      registry.start();
      streamTokenKey.start();
      callbackKey.start();
      sweeper.start();
      retention.start();
      presence?.start();
      await lanes.start();
      signal.throwIfAborted();
      phase = "started";
      stopLogging = logReadiness(readiness, requestLog);
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  async function endParts(): Promise<void> {
    streamTokenKey.stop();
    callbackKey.stop();
    await presence?.stop();
    // The connections with them: they cut what hangs, and the sweeper waits for its query.
    await Promise.all([sweeper.stop(), retention.stop(), listener.stop(), lanes.end()]);
  }

  const { app, mintStreamToken, callbackLink } = createRoutes({
    ...options,
    lanes,
    streamTokenKey,
    callbackKey,
    presence,
    hub,
    registry,
    readiness,
    statistics,
    epoch: () => listener.epoch,
    log,
    requestLog,
  });

  return {
    app,
    start: ({ signal } = {}) =>
      start(signal ? AbortSignal.any([signal, stopping.signal]) : stopping.signal),
    async drain(ms) {
      if (phase !== "stopped") phase = "draining";
      stopLogging?.();
      await registry.drain(ms);
    },
    async stop() {
      if (phase === "stopped") return;
      phase = "stopped";
      stopLogging?.();
      stopping.abort(new Error("jobcast was stopped"));
      await registry.drain(0);
      registry.stop();
      await endParts();
    },
    async streamToken(grant) {
      const isLimited = grant.jobs !== undefined || grant.batchId !== undefined;
      const scope = isLimited ? ("jobs:read" as const) : undefined;
      return (await mintStreamToken({ ...grant, scope, isForOneViewer: true })).token;
    },
    callbackUrl: (job) => callbackLink(job, options.publicUrl ?? ""),
    statistics: () => registry.statistics(),
  };
}
