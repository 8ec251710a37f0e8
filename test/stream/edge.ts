import { expect } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import type { StreamEvent } from "../support/event-stream.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream, type StreamClient, type StreamOptions } from "../support/stream-client.ts";

/** How long a test watches for something that must not happen. */
export const NOTHING_MS = 300;

/** A running service with a database of its own, and a producer that writes in plain SQL. */
export type Edge = {
  readonly db: TestDatabase;
  readonly server: TestServer;
  /** A new pending job of `alice`, or of somebody else. */
  newJob(owner?: string): Promise<string>;
  /** Each number is one more version of the job. */
  report(jobId: string, ...progress: number[]): Promise<void>;
  complete(jobId: string, result?: unknown): Promise<void>;
  /** The stream of one job, as its owner. */
  openJob(jobId: string, options?: Partial<StreamOptions>): Promise<StreamClient>;
  /** Any stream, as `alice` unless a token is given. */
  open(path: string, options?: Partial<StreamOptions>): Promise<StreamClient>;
  /** Closes what the test left open, and waits until the server holds no stream and no poll. */
  expectNothingOpen(): Promise<void>;
  stop(): Promise<void>;
};

type Options = Partial<Parameters<typeof startTestServer>[0]>;

/** @param given a database that the test has made already; it is dropped with the rest */
export async function startEdge(options: Options = {}, given?: TestDatabase): Promise<Edge> {
  const db = given ?? (await createTestDatabase());
  const server = await startTestServer({ databaseUrl: db.url, ...options });
  const clients: StreamClient[] = [];
  async function open(path: string, others: Partial<StreamOptions> = {}) {
    const token = server.token({ scope: "" });
    const client = await openStream({ url: server.url, path, token, ...others });
    clients.push(client);
    return client;
  }
  return {
    db,
    server,
    async newJob(owner = "alice") {
      const [job] = await db.query<{ id: string }>(
        "select id from jobcast.create_job($1, 'render')",
        [owner],
      );
      return job?.id ?? "";
    },
    async report(jobId, ...progress) {
      for (const value of progress) {
        await db.query("select jobcast.report_progress($1, $2)", [jobId, value]);
      }
    },
    async complete(jobId, result = null) {
      await db.query("select jobcast.complete_job($1, $2)", [jobId, JSON.stringify(result)]);
    },
    openJob: (jobId, others) => open(`/v1/jobs/${jobId}/events`, others),
    open,
    async expectNothingOpen() {
      await Promise.all(clients.splice(0).map((client) => client.close()));
      let subscriptions: unknown;
      // Who came last may not have been let in yet when the first are gone.
      const isQuiet = async () => {
        const { body } = await server.call("GET", "/v1/stats");
        subscriptions = body.subscriptions;
        const { open: counts } = server.jobcast.statistics();
        return counts.sse + counts["long-poll"] + body.subscriptions.subscribers === 0;
      };
      const left = () =>
        `no open stream; ${JSON.stringify([server.jobcast.statistics(), subscriptions])}`;
      await until(isQuiet, 20_000, left);
      expect(server.jobcast.statistics().openByOwner).toEqual({});
      expect(subscriptions).toEqual({ topics: 0, subscribers: 0 });
    },
    async stop() {
      await server.stop();
      await db.drop();
    },
  };
}

/** The ids of the versions that a stream of one job was told, in order. */
export function versionsOf(events: readonly StreamEvent[]): number[] {
  return events.filter(isState).map(({ data }) => JSON.parse(data).version);
}

/** Matches an id of the version, whichever row that is. */
export function idOf(version: number): string {
  return expect.stringMatching(new RegExp(`^${version}-[\\da-f]{6}$`)) as string;
}

/** Whether it tells a state of a job. */
export function isState({ type }: StreamEvent): boolean {
  return type === "status" || type === "reset";
}

/** 1, 2, ... up to and with `last`. */
export function upTo(last: number, first = 1): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}
