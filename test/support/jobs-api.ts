import type pg from "pg";
import { pino } from "pino";
import supertest from "supertest";
import { createJobStore } from "../../src/db/jobs.ts";
import { Lanes } from "../../src/db/lanes.ts";
import { createApp } from "../../src/http/app.ts";
import { createAuth } from "../../src/http/auth/auth.ts";
import { createBodyReader } from "../../src/http/body.ts";
import { BodyPlaces } from "../../src/http/body-places.ts";
import { createCallbackLinks } from "../../src/http/callbacks/callback-token.ts";
import type { Operation } from "../../src/http/operation.ts";
import { jobUpdates } from "../../src/http/operations/job-updates.ts";
import { jobs } from "../../src/http/operations/jobs.ts";
import { service } from "../../src/http/operations/service.ts";
import type { HttpParts, Readiness } from "../../src/http/parts.ts";
import { Unsent } from "../../src/stream/unsent.ts";
import { createTestDatabase, openTestPool } from "./database.ts";
import { serveHttp } from "./http-fixture.ts";
import { signToken, TEST_SECRET } from "./tokens.ts";

export type JobsApi = {
  readonly databaseUrl: string;
  readonly lanes: Lanes;
  /** Connections of the test's own. */
  readonly pool: pg.Pool;
  readonly port: number;
  readonly request: ReturnType<typeof supertest>;
  /** The lines of the log, parsed. */
  readonly logged: Record<string, unknown>[];
  /** What `/readyz` says. */
  readiness: Readiness;
  close(): Promise<void>;
};

export type JobsApiOptions = {
  corsOrigins?: string[];
  publicUrl?: string;
  /** Serves from there, whether it is a database or not. Default: a new one. */
  databaseUrl?: string;
  /** Served beside those of jobs. */
  operations?: readonly Operation[];
};

/** The jobs API on a database of its own and a free port. */
export async function startJobsApi({
  corsOrigins = [],
  databaseUrl,
  publicUrl,
  operations = [],
}: JobsApiOptions = {}): Promise<JobsApi> {
  const database = databaseUrl === undefined ? await createTestDatabase() : undefined;
  const url = databaseUrl ?? database?.url ?? "";
  const pool = openTestPool(url);
  const lanes = new Lanes({ connectionString: url, size: 12, onError: () => undefined });
  const logged: Record<string, unknown>[] = [];
  const log = pino({ level: "info" }, { write: (line) => logged.push(JSON.parse(line)) });
  const key = Buffer.alloc(32, 1);
  const parts: Partial<HttpParts> = {
    publicUrl,
    readBody: createBodyReader(new BodyPlaces()),
    jobs: createJobStore(lanes),
    callbackLink: createCallbackLinks({ key: async () => key }),
    epoch: () => "epoch",
    readiness: () => api.readiness,
  };
  const health = service.operations.filter(({ path }) => /^\/(healthz|readyz)$/.test(path));
  const served = [...jobs.operations, ...jobUpdates.operations, ...health, ...operations];
  const app = createApp(served, parts as HttpParts, {
    log,
    corsOrigins,
    unsent: new Unsent(128 * 1_024 * 1_024),
    auth: createAuth({
      jwt: { secret: TEST_SECRET },
      streamTokenKey: { read: async () => key, isCurrent: () => true },
      corsOrigins,
      log,
    }),
    streamErrors: (error, _req, _res, next) => next(error),
  });
  const server = await serveHttp(app);
  const api: JobsApi = {
    databaseUrl: url,
    lanes,
    pool,
    port: server.port,
    request: supertest(server.url),
    logged,
    readiness: { ready: true },
    async close() {
      await server.close();
      await Promise.all([pool.end(), lanes.end()]);
      await database?.drop();
    },
  };
  return api;
}

/** An Authorization header for an owner, and for scopes such as "jobs:create jobs:read". */
export function bearer(sub: string, scope = ""): string {
  return `Bearer ${signToken({ sub, scope })}`;
}
