import { EventSource } from "eventsource";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { endAll, type MainProcess, makeFolder, runMain } from "../main-process.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { openStream } from "../support/stream-client.ts";
import { signToken, TEST_SECRET } from "../support/tokens.ts";
import { freePort, isInstalled, PROXIES, type RunningProxy, startProxy } from "./proxy.ts";

/*
 * The configuration files of docs/proxies/, in the real programs, in front of two processes. Each
 * program is tried where it is installed.
 */

const INSTALLED = PROXIES.filter(isInstalled);
const VIEWERS = 6;

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let database: TestDatabase;
let ports: [number, number];
const services: MainProcess[] = [];
const proxies = new Map<string, RunningProxy>();
const token = signToken({ sub: "ann" });

async function startService(index: 0 | 1): Promise<void> {
  const service = runMain(
    {
      NODE_ENV: "production",
      HOST: "127.0.0.1",
      PORT: String(ports[index]),
      JWT_SECRET: TEST_SECRET,
      DATABASE_URL: database.url,
      DRAIN_SECONDS: "3",
      RETRY_MS: "200",
    },
    makeFolder(),
  );
  services[index] = service;
  await service.url();
}

beforeAll(async () => {
  database = await createTestDatabase();
  ports = [await freePort(), await freePort()];
  await Promise.all([startService(0), startService(1)]);
  const started = await Promise.all(INSTALLED.map((kind) => startProxy(kind, ports)));
  for (const proxy of started) proxies.set(proxy.name, proxy);
});
afterAll(async () => {
  await Promise.all([...proxies.values()].map((proxy) => proxy.stop()));
  await endAll();
  await database?.drop();
});

async function newJob(): Promise<string> {
  const [job] = await database.query<{ id: string }>(
    "select id from jobcast.create_job('ann', 'render')",
  );
  return job?.id ?? "";
}

const report = (id: string, progress: number) =>
  database.query("select jobcast.report_progress($1, $2)", [id, progress]);
const complete = (id: string) => database.query("select jobcast.complete_job($1)", [id]);

/** An EventSource with a token, as a viewer has one. */
function watch(url: string) {
  const versions: number[] = [];
  const source = new EventSource(url, {
    fetch: (input, init) =>
      fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } }),
  });
  source.addEventListener("status", ({ data }) => versions.push(JSON.parse(data).version));
  const errors: unknown[] = [];
  source.addEventListener("error", ({ code, message }) => errors.push([code, message]));
  source.addEventListener("reset", () => versions.push(Number.NaN));
  return { source, versions, errors };
}

describe.skipIf(INSTALLED.length === 0)("jobcast behind a proxy", () => {
  it.each(INSTALLED)(
    "$name passes events on as they come, whoever would take gzip",
    async (kind) => {
      const { url } = proxies.get(kind.name) as RunningProxy;
      const id = await newJob();
      const headers = { "accept-encoding": "gzip" };
      const stream = await openStream({ url, path: `/v1/jobs/${id}/events`, token, headers });
      expect(stream.status).toBe(200);
      expect(stream.headers["content-encoding"]).toBeUndefined();
      await stream.next();
      for (const progress of [10, 20, 30]) {
        await report(id, progress);
        expect(JSON.parse((await stream.next()).data)).toMatchObject({ progress });
      }
      await complete(id);
      await within(stream.ended, 5_000, "the end of the stream");
      expect(stream.ending).toBe("complete");
      const list = await fetch(`${url}/v1/jobs`, {
        headers: { authorization: `Bearer ${token}`, "accept-encoding": "gzip" },
      });
      expect(list.status).toBe(200);
      expect(await list.json()).toHaveProperty("items.0.id");
      expect((await fetch(`${url}/metrics`)).status).toBeGreaterThanOrEqual(403);
    },
  );

  it("keeps quiet streams open, and long polls", async () => {
    await Promise.all(
      [...proxies.values()].map(async ({ url, name }) => {
        const id = await newJob();
        const stream = await openStream({
          url,
          path: `/v1/jobs/${id}/events`,
          token,
          deadlineMs: 60_000,
        });
        const polled = fetch(`${url}/v1/jobs/${id}/events?after=1&wait=60`, {
          headers: { authorization: `Bearer ${token}`, accept: "application/json" },
        });
        const pings = await stream.take(4, ({ type }) => type === "ping", 60_000);
        expect(pings.length, name).toBe(4); // 32 s
        await report(id, 50);
        await stream.next(({ type }) => type === "status");
        expect(await (await polled).json(), name).toMatchObject({ events: [{ version: 2 }] });
        await stream.close();
      }),
    );
  });

  it("loses no viewer while the two are restarted, one after the other", async () => {
    const id = await newJob();
    const viewers = [...proxies.values()].flatMap(({ url, name }) =>
      Array.from({ length: VIEWERS }, () => ({ name, ...watch(`${url}/v1/jobs/${id}/events`) })),
    );
    await until(
      () => viewers.every(({ versions }) => versions.length === 1),
      20_000,
      "all viewers",
    );
    let progress = 0;
    const restarts = (async () => {
      for (const index of [0, 1] as const) {
        services[index]?.kill("SIGTERM");
        await within(Promise.resolve(services[index]?.ended), 20_000, "the end of a process");
        await startService(index);
      }
    })();
    let isOver = false;
    const restarted = restarts.finally(() => {
      isOver = true;
    });
    while (!isOver) {
      await report(id, progress);
      progress += 0.1;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await restarted;
    await complete(id);
    const rows = await database.query("select from jobcast.status_history where job_id = $1", [id]);
    const all = Array.from({ length: rows.length }, (_, index) => index + 1);
    await until(
      () => viewers.every(({ source }) => source.readyState === source.CLOSED),
      30_000,
      () =>
        viewers
          .map(({ name, source, versions }) => `${name} ${source.readyState} ${versions.at(-1)}`)
          .join("\n"),
    );
    for (const { name, versions, errors } of viewers) {
      expect(versions, `${name}: ${JSON.stringify(errors)}`).toEqual(all);
    }
  });
});
