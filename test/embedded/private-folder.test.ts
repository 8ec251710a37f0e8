import { execFileSync } from "node:child_process";
import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { makePrivateClone } from "./clone.ts";
import {
  asRoot,
  infos,
  makeDir,
  manageClusters,
  postmasterPid,
  query,
  start,
  startInChild,
} from "./setup.ts";

manageClusters();

const CLUSTERS = "/var/lib/jobcast-postgres/clusters";
const OTHER_USER = 65534;

/** A data directory in a folder that only the user of this process may enter. */
const privateDataDir = () => join(makeDir(), "data");

const linkIn = (dataDir: string) => join(dataDir, "postgres");

describe("a data directory where only its own user may go", () => {
  it("has its cluster behind a link if that user is root, else in it", async () => {
    const dataDir = privateDataDir();
    const { superuserUrl } = await start(dataDir);

    const [{ dir } = { dir: "" }] = await query<{ dir: string }>(
      superuserUrl,
      "select current_setting('data_directory') as dir",
    );
    const elsewhere = infos.filter(({ msg }) => msg.includes("elsewhere"));
    expect(statSync(dirname(dataDir)).mode & 0o777).toBe(0o700);
    const programs = asRoot ? [] : [expect.stringMatching(/^postgres-programs-18\./)];
    expect(readdirSync(dataDir).sort()).toEqual([
      ...["database-url", "owner.pid", "postgres", "postgres-password", ...programs],
      "postgres.log",
    ]);
    if (!asRoot) {
      expect(dir).toBe(linkIn(dataDir));
      expect(lstatSync(linkIn(dataDir)).isDirectory()).toBe(true);
      expect(elsewhere).toEqual([]);
      return;
    }
    expect(readlinkSync(linkIn(dataDir))).toBe(dir);
    expect(dirname(dirname(dir))).toBe(CLUSTERS);
    expect(elsewhere.map(({ details }) => details)).toEqual([{ dataDir, cluster: dir }]);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    expect(statSync(dir).uid).not.toBe(0);
    const home = statSync(dirname(dir));
    expect([home.uid, home.mode & 0o777]).toEqual([0, 0o711]);
    expect(readFileSync(join(dataDir, "postgres.log"), "utf8")).toContain("ready to accept");
  });

  it("keeps its data, its port and its password, also when it moves", async () => {
    const dataDir = privateDataDir();
    const first = await start(dataDir);
    await query(first.url, "create table kept as select 42 as n");
    await first.stop();
    const moved = join(makeDir(), "data");
    if (asRoot) chmodSync(dirname(moved), 0o755);
    renameSync(dataDir, moved);

    const second = await start(moved);

    expect(second.url).toBe(first.url);
    expect(await query(second.url, "select n from kept")).toEqual([{ n: 42 }]);
  });

  it("has none of the data of one that was deleted in its place", async () => {
    const dataDir = privateDataDir();
    const first = await start(dataDir);
    await query(first.url, "create table kept (n int)");
    await first.stop();
    const left = join(makeDir(), "data");
    renameSync(dataDir, left);

    const second = await start(dataDir);

    const [found] = await query(second.url, "select to_regclass('kept') as kept");
    expect(found).toEqual({ kept: null });
  });

  it.runIf(asRoot)("is refused as a copy of one that is in use", async () => {
    const dataDir = privateDataDir();
    const first = await start(dataDir);
    const copy = privateDataDir();
    execFileSync("cp", ["-a", dataDir, copy]);
    rmSync(join(copy, "owner.pid"));

    await expect(start(copy)).rejects.toThrow(/in use by another jobcast/);

    expect(readdirSync(copy)).not.toContain("owner.pid");
    expect(await query(first.url, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it.runIf(asRoot).each([
    ["that somebody else has made", OTHER_USER, `${CLUSTERS}/somebody-s/postgres`],
    ["that leads elsewhere", 0, "/var/lib/postgresql/18/postgres"],
    ["out of the folder of clusters", 0, `${CLUSTERS}/../postgres`],
  ])("is refused with a link %s", async (_, uid, target) => {
    const dataDir = privateDataDir();
    mkdirSync(dataDir);
    symlinkSync(target, linkIn(dataDir));
    lchownSync(linkIn(dataDir), uid, uid);

    await expect(start(dataDir)).rejects.toThrow(
      `is a link to ${target} that jobcast has not made, and root follows no other`,
    );
  });

  it.runIf(asRoot)(
    "gets another cluster in place of one that is gone only if told so",
    async () => {
      const dataDir = privateDataDir();
      mkdirSync(dataDir);
      writeFileSync(join(dataDir, "postgres-password"), "of the one that is gone");
      symlinkSync(`${CLUSTERS}/gone/postgres`, linkIn(dataDir));
      await expect(start(dataDir)).rejects.toThrow(
        "leads to a cluster that cannot be used: ENOENT",
      );
      rmSync(linkIn(dataDir));

      const { url } = await start(dataDir);

      expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
    },
  );
});

describe("a clone where only its own user may go", () => {
  it("starts, survives a kill -9 and is taken over from there", async () => {
    const { clone, dataDir, platform, programs } = await makePrivateClone(makeDir());
    const first = await startInChild(dataDir, "", clone);
    await query(first.url, "create table kept as select 7 as n");
    const orphan = postmasterPid(dataDir);
    const program = readlinkSync(`/proc/${orphan}/exe`);
    await first.kill("SIGKILL");

    const second = await startInChild(dataDir, "", clone);

    const beside = join(dirname(realpathSync(linkIn(dataDir))), programs);
    expect(program).toBe(join(asRoot ? beside : `${platform}/native`, "bin/postgres"));
    expect(second.url).toBe(first.url);
    expect(postmasterPid(dataDir)).not.toBe(orphan);
    expect(await query(second.url, "select n from kept")).toEqual([{ n: 7 }]);
  });
});
