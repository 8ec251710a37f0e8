import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { MAX_HEADERS } from "../jobcast.ts";
import type { Logger } from "../log.ts";
import { shareOpenFiles } from "../open-files.ts";
import type { Config } from "./config.ts";
import { fail } from "./start-error.ts";

export type HttpServer = {
  /** Where it listens, as a caller on this machine would write it. */
  readonly url: string;
  /** Lets requests that are under way finish, for a while. */
  close(): Promise<void>;
};

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

/** What requests that are under way get when it closes. */
const FINISH_MS = 5_000;

/** How often a log tells that clients are turned away. */
const TELL_MS = 10_000;

/** @throws {StartError} */
export async function startHttpServer(
  app: RequestListener,
  config: Config,
  log: Logger,
): Promise<HttpServer> {
  const server = createServer(TIMEOUTS, (req, res) => {
    res.setHeader("Strict-Transport-Security", HTTPS_ONLY);
    app(req, res);
  });
  boundConnections(server, config, log);
  await listen(server, config);
  log.info({ ...(server.address() as AddressInfo) }, "listening");
  return { url: urlOf(server, config.host), close: () => close(server) };
}

/** Beyond what leaves enough for the database a client is turned away, and comes back. */
function boundConnections(server: Server, { databasePoolSize }: Config, log: Logger): void {
  const { connections } = shareOpenFiles(databasePoolSize);
  server.maxConnections = connections;
  server.maxHeadersCount = MAX_HEADERS;
  let toldAt = Number.NEGATIVE_INFINITY;
  server.on("drop", () => {
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

async function close(server: Server): Promise<void> {
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
