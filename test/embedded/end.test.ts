import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { identify } from "../../src/embedded/process-identity.ts";
import { until, within } from "../support/deadline.ts";
import {
  children,
  copyOfTemplate,
  makeDir,
  manageClusters,
  postmasterPid,
  query,
  start,
  startInChild,
} from "./setup.ts";

manageClusters();

describe.runIf(process.platform === "linux")("a process that nobody has reaped", () => {
  it("does not count as running, though a signal still finds it", async () => {
    // Its parent has become a sleep by then, which waits for no child.
    const parent = spawn("sh", ["-c", "sleep 0.2 & echo $!; exec sleep 60"]);
    children.push(parent);
    const pid = Number(String((await once(parent.stdout, "data"))[0]));
    const state = () => readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[2];
    await until(() => state() === "Z", 5_000, "a zombie");

    expect(process.kill(pid, 0)).toBe(true);
    expect(identify(pid)).toBeUndefined();
  });
});

describe("a PostgreSQL that ends by itself", () => {
  it.each(["SIGQUIT", "SIGKILL"] as const)("is reported after a %s", async (signal) => {
    const dataDir = copyOfTemplate();
    const told: string[] = [];
    const postgres = await start(dataDir, (reason) => told.push(reason));
    const pid = postmasterPid(dataDir);

    process.kill(pid, signal);
    await until(() => told.length > 0, 5_000, "onExit");
    const before = performance.now();
    await postgres.stop();

    expect(performance.now() - before).toBeLessThan(2_000);
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(`PostgreSQL (pid ${pid}) ended without being asked to.`);

    await expect(start(dataDir)).resolves.toHaveProperty("url", postgres.url);
  });

  it("does not hold up a stop that comes before it is noticed", async () => {
    const dataDir = copyOfTemplate();
    const told: string[] = [];
    const postgres = await start(dataDir, (reason) => told.push(reason));
    process.kill(postmasterPid(dataDir), "SIGKILL");

    const before = performance.now();
    await Promise.all([postgres.stop(), postgres.stop()]);

    expect(performance.now() - before).toBeLessThan(2_000);
    expect(told).toEqual([]);
  });

  it("can be stopped when somebody has deleted its data directory", async () => {
    const dataDir = copyOfTemplate();
    const postgres = await start(dataDir);
    const process = identify(postmasterPid(dataDir));
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });

    await postgres.stop();

    expect(identify(process?.pid ?? 0)).toBeUndefined();
  });
});

describe("the process around it", () => {
  it("is left without a signal handler by the package that makes clusters", async () => {
    const events = '["SIGTERM", "SIGINT", "SIGHUP", "exit", "beforeExit", "message"]';
    const count = `console.log(${events}.map((event) => process.listenerCount(event)).join());`;
    const { line } = await startInChild(makeDir(), `setImmediate(() => { ${count} });`);

    expect(await line()).toBe("0,0,0,0,0,0");
  });

  const drainOn = (signal: string) => `
    process.on("${signal}", async () => {
      const client = new pg.Client(postgres.url);
      await new Promise((resolve) => setTimeout(resolve, 300));
      await client.connect();
      console.log((await client.query("select 'drained' as said")).rows[0].said);
      await client.end();
      await postgres.stop();
      clearInterval(keepAlive);
    });
  `;

  it.each(["SIGINT", "SIGTERM"] as const)(
    "has its database while it drains on %s",
    async (signal) => {
      const dataDir = makeDir();
      const { child, line, ended, stderr } = await startInChild(dataDir, drainOn(signal));

      // To the whole group, as a terminal sends it.
      process.kill(-(child.pid ?? 0), signal);

      expect(await within(line(), 10_000, stderr)).toBe("drained");
      expect(await within(ended, 10_000, "the child to end")).toEqual([0, null]);
      expect(stderr()).toBe("");
      expect(readdirSync(dataDir)).not.toContain("owner.pid");
      expect(existsSync(join(dataDir, "postgres/postmaster.pid"))).toBe(false);
    },
  );

  it("may call process.exit() without a word on stderr", async () => {
    const leave = "console.log(postgres.url); process.exit(3);";
    const { ended, stderr } = await startInChild(makeDir(), leave);

    expect(await within(ended, 10_000, "the child to end")).toEqual([3, null]);
    expect(stderr()).toBe("");
  });

  it.runIf(process.platform === "linux")("keeps its secrets from the database", async () => {
    const dataDir = copyOfTemplate();
    const { superuserUrl } = await startInChild(dataDir);
    const environment = `pg_read_binary_file('/proc/${postmasterPid(dataDir)}/environ')`;

    const rows = await query(
      superuserUrl,
      `select position('not for PostgreSQL'::bytea in ${environment}) as leak`,
    );

    expect(rows).toEqual([{ leak: 0 }]);
  });
});
