import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { until } from "../support/deadline.ts";
import type { StreamClient } from "../support/stream-client.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { type Edge, startEdge, upTo, versionsOf } from "./edge.ts";

describe("between subscribing and the end of the replay", () => {
  let edge: Edge;
  let proxy: TcpProxy;

  beforeEach(async () => {
    // Replays read through the proxy, the feed does not: one can be held while the other goes on.
    const db = await createTestDatabase();
    proxy = await startTcpProxy(Number(new URL(db.url).port));
    const proxied = new URL(db.url);
    proxied.port = String(proxy.port);
    // Connections enough for one owner's replays to be held side by side.
    const options = { databasePoolSize: 40, listenDatabaseUrl: db.url };
    edge = await startEdge({ databaseUrl: proxied.href, ...options }, db);
  });

  afterEach(async () => {
    await edge.expectNothingOpen();
    await edge.stop();
    await proxy.close();
  });

  /** How many replays are in such a state. */
  async function replays(condition: string): Promise<number> {
    const [row] = await edge.db.query<{ count: number }>(
      `select count(*) from pg_stat_activity
       where datname = current_database() and application_name = 'jobcast streams' and ${condition}`,
    );
    return row?.count ?? 0;
  }

  /**
   * Connects clients and holds their replays twice: first so that `before` is committed after they
   * have subscribed and is seen by their reads as well, then so that `after` is committed, and told
   * to whoever is live, while what those reads saw is still on its way.
   */
  async function inTheWindow(options: {
    witness: StreamClient;
    connect: (() => Promise<StreamClient>)[];
    before: string;
    after: () => Promise<void>;
    /** How many events the witness is told of both. */
    changes: number;
  }): Promise<StreamClient[]> {
    const locker = await edge.db.connect();
    await locker.query("begin; lock table jobcast.status_history in access exclusive mode");
    const connecting: Promise<StreamClient>[] = [];
    for (const connect of options.connect) {
      connecting.push(connect());
      const isHere = async () => (await replays("wait_event_type = 'Lock'")) === connecting.length;
      await until(isHere, 5_000, "one more replay to wait for the lock");
    }
    proxy.freeze();
    await locker.query(options.before);
    await locker.query("commit");
    const haveRead = async () => (await replays("state = 'active'")) === 0;
    await until(haveRead, 5_000, "the replays to have read");
    await options.after();
    // The hub tells all subscribers in one turn, so by now the others were told too.
    await options.witness.take(options.changes);
    proxy.thaw();
    return Promise.all(connecting);
  }

  it.each([[["0", "1", "4"]], [["2", "3", undefined]]])(
    "a change is told once and in order, to each subscriber from its cursor of %j",
    async (ids) => {
      const id = await edge.newJob();
      await edge.report(id, 1, 2, 3);
      const witness = await edge.openJob(id);
      await witness.next();
      const streams = await inTheWindow({
        witness,
        connect: ids.map(
          (lastEventId) => () => edge.openJob(id, lastEventId ? { lastEventId } : {}),
        ),
        before: `update jobcast.jobs set progress = 11 where id = '${id}';
               update jobcast.jobs set progress = 12 where id = '${id}'`,
        after: () => edge.report(id, 21, 22, 23),
        changes: 5,
      });
      // It does not take one more change to bring them out.
      await Promise.all(
        streams.map((stream) => stream.next(({ lastEventId }) => lastEventId.startsWith("9-"))),
      );
      await edge.complete(id);
      await Promise.all(streams.map((stream) => stream.ended));
      for (const [index, stream] of streams.entries()) {
        // Without a cursor it begins with what was current when it was read.
        const first = ids[index] === undefined ? 6 : Number(ids[index]) + 1;
        expect(versionsOf(stream.events)).toEqual(upTo(10, first));
      }
    },
  );

  it("a change of many jobs is told once, on streams with and without a cursor", async () => {
    const jobs = [await edge.newJob(), await edge.newJob()];
    const [a = "", b = ""] = jobs;
    const witness = await edge.open("/v1/events");
    await witness.take(2);
    const cursor = { lastEventId: witness.lastEventId };
    await edge.report(a, 5);
    await witness.next();
    const streams = await inTheWindow({
      witness,
      connect: [
        () => edge.open("/v1/events", cursor),
        () => edge.open(`/v1/events?jobs=${a},${b}`),
        () => edge.open("/v1/events"),
      ],
      before: `update jobcast.jobs set progress = 11 where id in ('${a}', '${b}')`,
      after: () => edge.report(a, 21, 22),
      changes: 4,
    });
    const isLast = ({ data }: { data: string }) => data.includes(a) && data.includes('"version":5');
    await Promise.all(streams.map((stream) => stream.next(isLast)));
    const told = streams.map(({ events }) =>
      jobs.map((id) => versionsOf(events.filter(({ data }) => data.includes(id)))),
    );
    expect(told).toEqual([
      [upTo(5, 2), [2]],
      // Without a cursor it begins with what was current when it was read.
      [upTo(5, 3), [2]],
      [upTo(5, 3), [2]],
    ]);
    // The ids that they were left with lead on without a gap and without a repetition.
    await edge.report(a, 41);
    await Promise.all(streams.map((stream) => stream.next()));
    await Promise.all(streams.map((stream) => stream.close()));
    await edge.report(b, 51);
    for (const { lastEventId } of streams) {
      const resumed = await edge.open("/v1/events", { lastEventId });
      const { data } = await resumed.next();
      expect(JSON.parse(data)).toMatchObject({ jobId: b, version: 3 });
      await resumed.close();
    }
  });

  it("news are not slept over by a long poll, of one job or of many", async () => {
    const id = await edge.newJob();
    const witness = await edge.open("/v1/events");
    await witness.next();
    const headers = { accept: "application/json" };
    const [job, all] = await inTheWindow({
      witness,
      connect: [
        () => edge.open(`/v1/jobs/${id}/events?after=1&wait=60`, { headers }),
        () => edge.open(`/v1/events?after=${witness.lastEventId}&wait=60`, { headers }),
      ],
      before: "select 'nothing'",
      after: () => edge.report(id, 50),
      changes: 1,
    });
    for (const answer of [job, all]) {
      const { events } = JSON.parse((await answer?.body()) ?? "");
      expect(events).toMatchObject([{ jobId: id, version: 2 }]);
    }
  });
});
