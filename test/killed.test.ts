import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { endAll, type MainProcess, makeFolder, runMain } from "./main-process.ts";
import { until, within } from "./support/deadline.ts";
import { signToken, TEST_SECRET } from "./support/tokens.ts";

// Each start may make a database from nothing, on a machine that may be busy with other tests.
vi.setConfig({ testTimeout: 120_000 });

afterEach(() => endAll());

const WRITERS = 8;

/** Creates jobs as fast as it can until the service is gone; gives back those it was told are there. */
async function createUntilTheEnd(url: string, token: string): Promise<string[]> {
  const created: string[] = [];
  const write = async () => {
    for (;;) {
      const answer = await fetch(`${url}/v1/jobs`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify({ type: "t" }),
      });
      if (answer.status !== 201) return;
      created.push(((await answer.json()) as { id: string }).id);
    }
  };
  await Promise.all(
    Array.from({ length: WRITERS }, () => write().catch(() => undefined)), // the end of the service
  );
  return created;
}

async function idsIn(url: string, token: string): Promise<Set<string>> {
  const ids = new Set<string>();
  for (let cursor: string | null = ""; cursor !== null; ) {
    const answer = await fetch(`${url}/v1/jobs?limit=100${cursor}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(answer.status).toBe(200);
    const page = (await answer.json()) as { items: { id: string }[]; nextCursor: string | null };
    for (const { id } of page.items) ids.add(id);
    cursor = page.nextCursor && `&cursor=${page.nextCursor}`;
  }
  return ids;
}

it.each(["the service", "its PostgreSQL"])(
  "keeps what was acknowledged when %s is killed",
  async (who) => {
    const folder = makeFolder();
    const env = { JWT_SECRET: TEST_SECRET };
    const token = signToken({ sub: "ann", scope: "jobs:create" });
    const first: MainProcess = runMain(env, folder);
    const url = await first.url();
    const creating = createUntilTheEnd(url, token);
    const isUnderWay = async () => {
      const answer = await fetch(`${url}/v1/jobs?limit=100`, {
        headers: { authorization: `Bearer ${token}` },
      });
      return ((await answer.json()) as { items: unknown[] }).items.length === 100;
    };
    await until(isUnderWay, 30_000, "a hundred jobs");
    if (who === "the service") first.kill("SIGKILL");
    else {
      const pidFile = await readFile(join(folder, ".jobcast/postgres/postmaster.pid"), "utf8");
      process.kill(Number.parseInt(pidFile, 10), "SIGKILL");
    }
    const created = await creating;
    await within(first.ended, 30_000, "the end of the process");
    const second = runMain(env, folder);
    const found = await idsIn(await second.url(), token);
    expect(created.length).toBeGreaterThanOrEqual(100);
    expect(created.filter((id) => !found.has(id))).toEqual([]);
  },
);
