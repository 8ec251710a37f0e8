import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { identify } from "../../src/embedded/process-identity.ts";
import {
  asRoot,
  children,
  copyOfTemplate,
  makeDir,
  manageClusters,
  postmasterPid,
  query,
  start,
  startInChild,
  warnings,
} from "./setup.ts";

manageClusters();

describe("the first start", () => {
  it("makes a private cluster that only this machine reaches, with a password", async () => {
    const dataDir = makeDir();
    const { url, superuserUrl } = await start(dataDir);

    const password = new URL(superuserUrl).password;
    expect(url).toMatch(/^postgres:\/\/jobcast:[0-9a-f]{32,}@127\.0\.0\.1:\d+\/jobcast$/);
    expect(superuserUrl).toMatch(/^postgres:\/\/postgres:[0-9a-f]{32,}@127\.0\.0\.1:\d+\/jobcast$/);
    expect(readFileSync(join(dataDir, "postgres-password"), "utf8").trim()).toBe(password);
    expect(readFileSync(join(dataDir, "database-url"), "utf8").trim()).toBe(url);
    const modes = ["postgres", "postgres-password", "database-url", "postgres.log"].map(
      (name) => statSync(join(dataDir, name)).mode & 0o777,
    );
    expect(modes).toEqual([0o700, 0o600, 0o600, 0o600]);
    expect(readdirSync(dataDir).sort()).toEqual([
      ...["database-url", "owner.pid", "postgres", "postgres-password"],
      ...[expect.stringMatching(/^postgres-programs-18\./), "postgres.log"],
    ]);
    const [settings] = await query(
      superuserUrl,
      `select current_setting('listen_addresses') as listens,
              current_setting('unix_socket_directories') as sockets,
              current_setting('server_encoding') as encoding,
              current_setting('fsync') as fsync,
              (select datlocale from pg_database where datname = current_database()) as locale,
              (select array_agg(distinct auth_method) from pg_hba_file_rules) as methods`,
    );
    expect(settings).toEqual({
      ...{ listens: "127.0.0.1", sockets: "", encoding: "UTF8", fsync: "off", locale: "C.UTF-8" },
      methods: ["scram-sha-256"],
    });
    const [role] = await query(
      url,
      `select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
              pg_get_userbyid(datdba) as owner
       from pg_roles, pg_database where rolname = current_user and datname = current_database()`,
    );
    expect(role).toEqual({
      ...{ rolsuper: false, rolcreatedb: false, rolcreaterole: false },
      ...{ rolreplication: false, rolbypassrls: false, owner: "jobcast" },
    });
    const wrong = superuserUrl.replace(password, "password");
    await expect(query(wrong, "select 1")).rejects.toThrow("password authentication failed");
  });

  it("starts over what an initdb that was killed left behind", async () => {
    const dataDir = makeDir();
    mkdirSync(join(dataDir, "postgres.initialising-k1ll3d/postgres/base"), { recursive: true });
    mkdirSync(join(dataDir, "postgres"));

    const { url } = await start(dataDir);

    expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(readdirSync(dataDir).filter((name) => name.includes("initialising"))).toEqual([]);
  });
});

describe("a later start", () => {
  it("keeps the data, the port and the password", async () => {
    const dataDir = copyOfTemplate();
    const first = await start(dataDir);
    await query(first.url, "insert into kept values (42)");
    await first.stop();

    const second = await start(dataDir);

    expect(second.url).toBe(first.url);
    expect(await query(second.url, "select n from kept")).toEqual([{ n: 42 }]);
    expect(warnings).toEqual([]);
  });

  it("takes another port, and says so, when that of the last run is busy", async () => {
    const dataDir = copyOfTemplate();
    const first = await start(dataDir);
    await first.stop();
    const port = Number(new URL(first.url).port);
    const squatter = createServer().listen(port, "127.0.0.1");
    await once(squatter, "listening");

    const second = await start(dataDir);
    squatter.close();

    expect(Number(new URL(second.url).port)).not.toBe(port);
    expect(await query(second.url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(warnings).toEqual(["the port of the last run is taken: PostgreSQL has another"]);
  });

  it("sets a new password when the file of the old one is gone", async () => {
    const dataDir = copyOfTemplate();
    const old = readFileSync(join(dataDir, "postgres-password"), "utf8").trim();
    rmSync(join(dataDir, "postgres-password"));

    const { url } = await start(dataDir);

    expect(new URL(url).password).not.toBe(old);
    expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it("hands what a superuser made over to the role of the service", async () => {
    const dataDir = copyOfTemplate();
    const before = await start(dataDir);
    await migrate({ connectionString: before.superuserUrl });
    await before.stop();

    const { url } = await start(dataDir);

    const owners = await query(
      url,
      `select distinct pg_get_userbyid(o.owner) as owner from (
         select relowner from pg_class where relnamespace = 'jobcast'::regnamespace
         union all select proowner from pg_proc where pronamespace = 'jobcast'::regnamespace
         union all select nspowner from pg_namespace where nspname = 'jobcast'
       ) o (owner)`,
    );
    expect(owners).toEqual([{ owner: "jobcast" }]);
    const made = `select (jobcast.create_job('alice', 'x', credits => 2)).credits
      from jobcast.grant_credits('alice', 5, 'top-up')`;
    expect(await query(url, made)).toEqual([{ credits: 2 }]);
  });

  it("makes another cluster when somebody has removed it, and nothing else", async () => {
    const dataDir = copyOfTemplate();
    rmSync(join(dataDir, "postgres"), { recursive: true });

    const { url } = await start(dataDir);

    const [found] = await query(url, "select to_regclass('kept') as kept");
    expect(found).toEqual({ kept: null });
  });

  it("is not disturbed by a second cluster starting at the same time", async () => {
    const urls = await Promise.all([copyOfTemplate(), copyOfTemplate()].map((dir) => start(dir)));

    const found = await Promise.all(
      urls.map(({ superuserUrl }) => query<{ dir: string }>(superuserUrl, "show data_directory")),
    );
    expect(new Set(found.map((rows) => JSON.stringify(rows))).size).toBe(2);
  });

  it("copes with a long path full of what a shell would expand", async () => {
    const dataDir = copyOfTemplate(`${"long ".repeat(40)}'q' "$HOME" \`id\``);

    const postgres = await start(dataDir);

    const rows = await query(
      postgres.superuserUrl,
      "select current_setting('data_directory') as dir",
    );
    expect(rows).toEqual([{ dir: join(dataDir, "postgres") }]);
  });
});

describe("after a kill -9 of its process", () => {
  it("takes over the orphan with its data", async () => {
    const dataDir = copyOfTemplate();
    const owner = await startInChild(dataDir);
    await query(owner.url, "insert into kept values (7)");
    const orphan = postmasterPid(dataDir);
    await owner.kill("SIGKILL");
    expect(identify(orphan)).toBeDefined();

    const { url } = await start(dataDir);

    expect(url).toBe(owner.url);
    expect(await query(url, "select n from kept")).toEqual([{ n: 7 }]);
    expect(warnings).toEqual(["taking over the PostgreSQL of a process that was killed"]);
    expect(identify(orphan)).toBeUndefined();
  });

  it("spares a stranger that has got the process id of the last PostgreSQL", async () => {
    const dataDir = copyOfTemplate();
    const stranger = spawn("sleep", ["60"]);
    children.push(stranger);
    const first = await start(dataDir);
    const pidFile = readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8");
    await first.stop();
    const recycled = pidFile.replace(/^\d+/, String(stranger.pid));
    writeFileSync(join(dataDir, "postgres/postmaster.pid"), recycled);

    const { url } = await start(dataDir);

    expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(stranger.exitCode ?? stranger.signalCode).toBeNull();
  });
});

describe("two services on one data directory", () => {
  it("refuses the second while the first one lives, and leaves it alone", async () => {
    const dataDir = copyOfTemplate();
    const owner = await startInChild(dataDir);

    await expect(start(dataDir)).rejects.toThrow(
      `The data directory ${dataDir} is in use by another jobcast (process ${owner.child.pid} on`,
    );

    expect(await query(owner.url, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it("refuses the second within one process, until the first has stopped", async () => {
    const dataDir = copyOfTemplate();
    const first = await start(dataDir);
    await expect(start(dataDir)).rejects.toThrow("is in use by another jobcast");
    await first.stop();

    await expect(start(dataDir)).resolves.toHaveProperty("url", first.url);
  });

  it("is refused as a copy of a directory that was in use, until somebody says that it is whole", async () => {
    const original = copyOfTemplate();
    const first = await start(original);
    const dataDir = join(makeDir(), "data");
    if (asRoot) chmodSync(dirname(dataDir), 0o755);
    execFileSync("cp", ["-a", original, dataDir]);

    await expect(start(dataDir)).rejects.toThrow(
      `The data directory ${dataDir} was copied while process ${process.pid} on `,
    );
    await first.stop();
    await expect(start(dataDir)).rejects.toThrow("may not fit together");
    rmSync(join(dataDir, "owner.pid"));

    await expect(start(dataDir)).resolves.toHaveProperty("url");
  });

  it("believes an owner in another container for as long as its file is renewed", async () => {
    const dataDir = copyOfTemplate();
    const file = join(dataDir, "owner.pid");
    const elsewhere = { pid: 1, startedAt: "1", place: "another container", host: "c0ffee" };
    writeFileSync(file, JSON.stringify(elsewhere));
    const beat = setInterval(() => utimesSync(file, new Date(), new Date()), 200);

    await expect(start(dataDir)).rejects.toThrow("(process 1 on c0ffee)");
    clearInterval(beat);
    utimesSync(file, 0, 0);

    await expect(start(dataDir)).resolves.toHaveProperty("url");
  });
});
