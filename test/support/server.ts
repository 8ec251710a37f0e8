import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createJobcast, type Jobcast, type JobcastOptions } from "../../src/jobcast.ts";
import { createLog } from "../../src/log.ts";
import { signToken, TEST_SECRET, type TokenClaims } from "./tokens.ts";

/** A running jobcast on a port of its own. */
export type TestServer = {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly port: number;
  readonly jobcast: Jobcast;
  readonly http: Server;
  /** Everything that was logged, a JSON document a line. */
  readonly logged: string[];
  /** A request as the owner `alice` with every scope, unless the claims say otherwise. */
  call(method: string, path: string, body?: unknown, claims?: TokenClaims): Promise<Answer>;
  token(claims?: TokenClaims): string;
  stop(): Promise<void>;
};

// biome-ignore lint/suspicious/noExplicitAny: a test looks at whatever came
export type Answer = { readonly status: number; readonly headers: Headers; readonly body: any };

const EVERY_SCOPE = "jobs:create jobs:write jobs:read credits:grant stats:read";

/** Starts the whole service in this process; options are those of `createJobcast`. */
export async function startTestServer(
  given: Partial<JobcastOptions> & { databaseUrl: string; port?: number },
): Promise<TestServer> {
  const { port: wanted = 0, ...options } = given;
  const logged: string[] = [];
  const log = createLog("debug", { write: (line: string) => void logged.push(line) });
  const jobcast = createJobcast({
    feed: "bell",
    jwt: { secret: TEST_SECRET },
    corsOrigins: [],
    heartbeatSeconds: 15,
    retryMs: 100,
    streamBufferBytes: 1_048_576,
    databasePoolSize: 12,
    maxStreams: 10_000,
    maxStreamsPerOwner: 10_000,
    maxStreamSeconds: 3_600,
    log,
    ...options,
  });
  const http = createServer(jobcast.app);
  await jobcast.start();
  await new Promise<void>((resolve) => http.listen(wanted, "127.0.0.1", resolve));
  const { port } = http.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const token = (claims: TokenClaims = {}) =>
    signToken({ sub: "alice", scope: EVERY_SCOPE, ...claims });

  return {
    url,
    port,
    jobcast,
    http,
    logged,
    token,
    async call(method, path, body, claims) {
      const response = await fetch(new URL(path, url), {
        method,
        headers: {
          authorization: `Bearer ${token(claims)}`,
          ...(body !== undefined && { "content-type": "application/json" }),
          ...(method === "GET" && { accept: "application/json" }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      return {
        status: response.status,
        headers: response.headers,
        body: text === "" ? undefined : JSON.parse(text),
      };
    },
    async stop() {
      await jobcast.drain(0);
      await jobcast.stop();
      http.closeAllConnections();
      await new Promise<void>((resolve) => http.close(() => resolve()));
    },
  };
}
