import { expect, inject } from "vitest";
import type { TestDatabase } from "../support/database.ts";
import { withAdmin } from "../support/database-server.ts";
import { until } from "../support/deadline.ts";
import type { TestServer } from "../support/server.ts";
import type { Sql } from "./watch.ts";

/** What `/readyz` says, and with which status. */
export type Readyz = {
  readonly status: number;
  readonly ready: boolean;
  readonly phase: string;
  readonly feed: string;
  readonly bell: boolean | null;
  readonly lastReadAgoMs: number;
  /** Only of one that is not ready. */
  readonly why?: readonly string[];
};

export async function readyz(server: TestServer): Promise<Readyz> {
  const { status, body } = await server.call("GET", "/readyz");
  return { status, ...body };
}

/** Waits until the listener is as the condition wants it. */
export async function untilListener(
  server: TestServer,
  isWanted: (readyz: Readyz) => boolean,
  deadlineMs = 10_000,
): Promise<Readyz> {
  let last: Readyz | undefined;
  return until(
    async () => {
      last = await readyz(server);
      return isWanted(last) && last;
    },
    deadlineMs,
    () => `another state of the listener than ${JSON.stringify(last)}`,
  );
}

/** Waits until the listener has heard its bell, is ready and asleep: all is quiet and well. */
export async function untilAsleep(server: TestServer, deadlineMs?: number): Promise<void> {
  await untilListener(
    server,
    ({ status, feed }) => status === 200 && feed === "asleep",
    deadlineMs,
  );
}

type Named = Pick<TestDatabase, "name">;

export type Part = "feed" | "doorbell";

/** The backends that one part of the listener has in this database. */
export async function backendsOf(db: Sql, part: Part): Promise<number[]> {
  const rows = await db.query<{ pid: number }>(
    "select pid from pg_stat_activity where datname = current_database() and application_name = $1",
    [`jobcast ${part}`],
  );
  return rows.map(({ pid }) => pid);
}

/** Ends the backends of these parts, as an administrator or a failover does. */
export async function terminate(db: Named, parts: readonly Part[]): Promise<void> {
  await withAdmin(inject("database").serverUrl, (admin) =>
    admin.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = $1 and application_name = any ($2)`,
      [db.name, parts.map((part) => `jobcast ${part}`)],
    ),
  );
}

/** Lets nobody connect to the database while the work goes on; sessions that are open stay. */
export async function withoutNewSessions(db: Named, work: () => Promise<void>): Promise<void> {
  const allow = (isAllowed: boolean) =>
    withAdmin(inject("database").serverUrl, (admin) =>
      admin.query(`alter database ${db.name} allow_connections ${isAllowed}`),
    );
  await allow(false);
  try {
    await work();
  } finally {
    await allow(true);
  }
}

/** One session to read with and one to listen with: none was left behind, none is missing. */
export async function expectOneListener(db: Sql): Promise<void> {
  expect(await backendsOf(db, "feed")).toHaveLength(1);
  expect(await backendsOf(db, "doorbell")).toHaveLength(1);
}
