import { randomBytes, randomUUID } from "node:crypto";
import { link, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Config, optionsOf } from "./config.ts";
import type { EmbeddedPostgres } from "./embedded/embedded-postgres.ts";
import { createJobcast, type Jobcast, MAX_HEADERS } from "./jobcast.ts";
import type { Logger } from "./log.ts";
import { shareOpenFiles } from "./open-files.ts";

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

/** Why the server cannot start, in a sentence for whoever starts it. */
export class StartError extends Error {
  override readonly name = "StartError";
}

/**
 * An idle connection is kept for longer than load balancers keep one (60 s, most of them): whoever
 * lets go first must not be the one that a request may be on the way to. A head that has begun is
 * there soon, or will not be.
 */
const TIMEOUTS = {
  keepAliveTimeout: 75_000,
  headersTimeout: 10_000,
  connectionsCheckingInterval: 2_000,
};

/** For browsers that came by HTTPS: come back by it for a year. The host is all ours. */
const HTTPS_ONLY = "max-age=31536000; includeSubDomains";

/** What requests that are under way get after the drain, and every later step of a stop. */
const FINISH_MS = 5_000;
const STEP_MS = 15_000;

/** How often a log tells that clients are turned away. */
const TELL_MS = 10_000;

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
    await jobcast.start({ signal }).catch((error: unknown) => {
      signal.throwIfAborted();
      fail("The database cannot be used: ", error);
    });
    const http = createServer(TIMEOUTS, (req, res) => {
      res.setHeader("Strict-Transport-Security", HTTPS_ONLY);
      jobcast.app(req, res);
    });
    boundConnections(http, config, log);
    await listen(http, config);
    running.push({ name: "HTTP server", stop: () => closeHttp(http) });
    log.info({ ...(http.address() as AddressInfo) }, "listening");

    return {
      url: urlOf(http, config.host),
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
    const { startEmbeddedPostgres } = await import("./embedded/embedded-postgres.ts");
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

/** @throws {StartError} unless the error is a mistake in the program, which needs its stack. */
function fail(before: string, error: unknown): never {
  if (error instanceof TypeError || !(error instanceof Error)) throw error;
  // What is thrown when a name has several addresses and none answers has no message of its own.
  const errors: unknown[] = error instanceof AggregateError ? error.errors : [error];
  const reasons = errors.map((each) => (each instanceof Error ? each.message : String(each)));
  throw new StartError(`${before}${reasons.join("; ")}`, { cause: error });
}

/**
 * The secret that was configured, or in development one that is made once and kept, so that tokens
 * outlive a restart.
 */
async function tokenSecret({ jwt, isProduction, dataDir }: Config): Promise<string | undefined> {
  if (isProduction || jwt.secret !== undefined || jwt.jwksUrl !== undefined) return jwt.secret;
  const file = join(dataDir, "jwt-secret");
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    const draft = `${file}.${randomUUID()}`;
    await writeFile(draft, `${randomBytes(48).toString("base64url")}\n`, {
      mode: 0o600,
      flag: "wx",
    });
    // Unlike a rename it does not replace what another process may have made meanwhile, and unlike
    // writing in place it never shows half a secret.
    await link(draft, file)
      .catch(ignoreExisting)
      .finally(() => rm(draft));
    const secret = (await readFile(file, "utf8")).trim();
    if (secret.length >= 32) return secret;
  } catch (error) {
    fail("The secret of development cannot be kept; set DATA_DIR or JWT_SECRET: ", error);
  }
  throw new StartError(`${file} holds no secret of 32 bytes: delete it to have one made.`);
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== "EEXIST") throw error;
}

/** Beyond what leaves enough for the database a client is turned away, and comes back. */
function boundConnections(http: Server, { databasePoolSize }: Config, log: Logger): void {
  const { connections } = shareOpenFiles(databasePoolSize);
  http.maxConnections = connections;
  http.maxHeadersCount = MAX_HEADERS;
  let toldAt = Number.NEGATIVE_INFINITY;
  http.on("drop", () => {
    if (performance.now() - toldAt < TELL_MS) return;
    toldAt = performance.now();
    log.warn({ connections }, "connections are turned away: there is no room for more");
  });
}

async function listen(server: Server, { host, port }: Config): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    const reason = LISTEN_ERRORS.get(error.code ?? "")?.(host, port);
    fail(
      reason ? "" : "HTTP cannot listen: ",
      reason ? new Error(reason, { cause: error }) : error,
    );
  });
}

const LISTEN_ERRORS: ReadonlyMap<string, (host: string, port: number) => string> = new Map([
  [
    "EADDRINUSE",
    (host, port) => `Port ${port} of ${host} is taken: set PORT to another one, or to 0.`,
  ],
  [
    "EACCES",
    (_, port) => `This user may not listen on port ${port}: set PORT to one from 1024 on.`,
  ],
  ["EADDRNOTAVAIL", (host) => `This machine has no address ${host}: set HOST to one that it has.`],
  ["ENOTFOUND", (host) => `Nobody knows the name ${host}: set HOST to an address of this machine.`],
]);

/** Lets requests that are under way finish, for a while. */
async function closeHttp(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  // A connection becomes idle when its answer is out, and close() has looked by then.
  const sweep = setInterval(() => server.closeIdleConnections(), 50);
  const cut = setTimeout(() => server.closeAllConnections(), FINISH_MS);
  await closed;
  clearInterval(sweep);
  clearTimeout(cut);
}

/** Where a caller on this machine finds it: everywhere is no address to connect to. */
function urlOf(server: Server, host: string): string {
  const { port } = server.address() as AddressInfo;
  const name = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${name.includes(":") ? `[${name}]` : name}:${port}`;
}
