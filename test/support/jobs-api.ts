import type { Router } from "express";
import type pg from "pg";
import { pino } from "pino";
import supertest from "supertest";
import { createDatabase } from "../../src/db/database.ts";
import { createJobStore } from "../../src/db/jobs.ts";
import { createPool } from "../../src/db/pool.ts";
import { createApp } from "../../src/http/app.ts";
import { createAuth } from "../../src/http/auth/auth.ts";
import { createCallbackLinks } from "../../src/http/callbacks/callback-token.ts";
import { createHealthRouter, type Readiness } from "../../src/http/health-routes.ts";
import { createJobUpdatesRouter } from "../../src/http/job-updates-routes.ts";
import { createJobsRouter } from "../../src/http/jobs-routes.ts";
import { createTestDatabase } from "./database.ts";
import { serveHttp } from "./http-fixture.ts";
import { signToken, TEST_SECRET } from "./tokens.ts";

export type JobsApi = {
  readonly databaseUrl: string;
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
  /** Mounted beside the jobs routes, behind the same authentication. */
  routers?: Router[];
};

/** The jobs API on a database of its own and a free port. */
export async function startJobsApi({
  corsOrigins = [],
  databaseUrl,
  publicUrl,
  routers = [],
}: JobsApiOptions = {}): Promise<JobsApi> {
  const database = databaseUrl === undefined ? await createTestDatabase() : undefined;
  const url = databaseUrl ?? database?.url ?? "";
  const pool = createPool(url, { onError: () => undefined });
  const logged: Record<string, unknown>[] = [];
  const log = pino({ level: "info" }, { write: (line) => logged.push(JSON.parse(line)) });
  const jobs = createJobStore(createDatabase(pool));
  const key = Buffer.alloc(32, 1);
  const app = createApp({
    log,
    corsOrigins,
    auth: createAuth({
      jwt: { secret: TEST_SECRET },
      streamTokenKey: async () => key,
      corsOrigins,
      log,
    }),
    routers: {
      open: [createHealthRouter({ readiness: () => api.readiness })],
      streams: [],
      api: [
        createJobsRouter({
          jobs,
          callbackLink: createCallbackLinks({ key: async () => key, publicUrl }),
          publicUrl,
        }),
        createJobUpdatesRouter({ jobs, publicUrl }),
        ...routers,
      ],
    },
  });
  const server = await serveHttp(app);
  const api: JobsApi = {
    databaseUrl: url,
    pool,
    port: server.port,
    request: supertest(server.url),
    logged,
    readiness: { ready: true },
    async close() {
      await server.close();
      await pool.end();
      await database?.drop();
    },
  };
  return api;
}

/** An Authorization header for an owner, and for scopes such as "jobs:create jobs:read". */
export function bearer(sub: string, scope = ""): string {
  return `Bearer ${signToken({ sub, scope })}`;
}
