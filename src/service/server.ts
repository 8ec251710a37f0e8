import { setTimeout as delay } from "node:timers/promises";
import { adviceOn } from "../db/connection-advice.ts";
import { waitForDatabase } from "../db/wait-for-database.ts";
import type { EmbeddedPostgres } from "../embedded/embedded-postgres.ts";
import { createJobcast, type Jobcast } from "../jobcast.ts";
import type { Logger } from "../log.ts";
import { type Config, optionsOf } from "./config.ts";
import { startHttpServer } from "./http-server.ts";
import { fail } from "./start-error.ts";
import { tokenSecret } from "./token-secret.ts";

export type ServerOptions = {
  readonly config: Config;
  readonly log: Logger;
  /** Gives up the start, at every moment. */
  readonly signal: AbortSignal;
  /** The embedded PostgreSQL ended by itself. It is not restarted: stop, and end the process. */
  readonly onFatal: (error: Error) => void;
};

export type RunningServer = {
  /** Where it listens, as a caller on this machine would write it. */
  readonly url: string;
  /** Of the embedded PostgreSQL, if it runs on one. */
  readonly embeddedUrl: string | undefined;
  /** What HS256 tokens are signed with; undefined when a key set is all that was configured. */
  readonly secret: string | undefined;
  /**
   * Not ready, streams closed over `drainSeconds`, requests finished, then the listener, the pool
   * and the embedded PostgreSQL. Never rejects; a step that fails or hangs is logged and left.
   * Safe to call twice.
   */
  stop(options?: { drainSeconds?: number }): Promise<void>;
};

/** What every step of a stop gets. */
const STEP_MS = 15_000;

type Stoppable = { name: string; stop(): Promise<void> };

/**
 * Starts everything: an embedded PostgreSQL unless a database was configured, jobcast, HTTP. What
 * was started is stopped again when a later part fails.
 *
 * @throws {StartError}
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { config, log, signal, onFatal } = options;
  const running: Stoppable[] = [];
  let stopping: Promise<void> | undefined;

  async function stopAll(): Promise<void> {
    for (const part of running.reverse()) await stopPart(part, log);
  }

  try {
    const secret = await tokenSecret(config);
    const embedded = config.databaseUrl === undefined ? await startEmbedded() : undefined;
    const databaseUrl = config.databaseUrl ?? embedded?.url ?? "";
    signal.throwIfAborted();
    const jobcast = createJobcast({ ...optionsOf(config, { databaseUrl, secret }), log });
    running.push({ name: "jobcast", stop: () => jobcast.stop() });
    await startJobcast(jobcast, databaseUrl);
    const http = await startHttpServer(jobcast.app, config, log);
    running.push({ name: "HTTP server", stop: () => http.close() });

    return {
      url: http.url,
      embeddedUrl: embedded?.url,
      secret,
      stop({ drainSeconds = config.drainSeconds } = {}) {
        stopping ??= drain(jobcast, drainSeconds * 1_000)
          .then(stopAll)
          .then(() => log.info("stopped"));
        return stopping;
      },
    };
  } catch (error) {
    stopping = stopAll();
    await stopping;
    if (signal.aborted) log.info("stopped");
    throw error;
  }

  async function startEmbedded(): Promise<EmbeddedPostgres> {
    // Loaded only here: who brings a database needs none of its packages.
    const { startEmbeddedPostgres } = await import("../embedded/embedded-postgres.ts");
    const embedded = await startEmbeddedPostgres({
      dataDir: config.dataDir,
      log,
      onExit: (reason) => !stopping && onFatal(new Error(reason)),
      signal,
    }).catch((error: unknown) => {
      signal.throwIfAborted();
      return fail("", error);
    });
    running.push({ name: "embedded PostgreSQL", stop: () => embedded.stop() });
    return embedded;
  }

  async function startJobcast(jobcast: Jobcast, databaseUrl: string): Promise<void> {
    const { listenDatabaseUrl = databaseUrl, databaseWaitSeconds: seconds } = config;
    try {
      await waitForDatabase([databaseUrl, listenDatabaseUrl], { seconds, signal, log });
      await jobcast.start({ signal });
    } catch (error) {
      signal.throwIfAborted();
      fail("The database cannot be used: ", adviceOn(error));
    }
  }

  async function drain(jobcast: Jobcast, ms: number): Promise<void> {
    log.info({ seconds: ms / 1_000 }, "draining");
    // In production somebody routes to us and learns from /readyz, within seconds, to stop it.
    // Nobody does so in development, where Ctrl-C should not wait for nothing.
    const waiting = config.isProduction ? delay(ms) : undefined;
    const stop = async () => {
      await Promise.all([jobcast.drain(ms), waiting]);
    };
    await stopPart({ name: "drain", stop }, log, ms);
  }
}

/** One that hangs or fails must not keep the ones after it from being stopped. */
async function stopPart({ name, stop }: Stoppable, log: Logger, ms = 0): Promise<void> {
  const timeout = new AbortController();
  try {
    const late = delay(ms + STEP_MS, "late", { signal: timeout.signal });
    const first = await Promise.race([stop(), late]);
    if (first === "late") log.error({ name }, "did not stop in time");
  } catch (err) {
    log.error({ err, name }, "did not stop in good order");
  } finally {
    timeout.abort();
  }
}
