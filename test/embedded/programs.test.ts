import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { afterEach, describe, expect, it, onTestFinished } from "vitest";
import type { PostgresBinaries } from "../../src/embedded/postgres-binaries.ts";
import { keepPrograms, keptPrograms } from "../../src/embedded/programs.ts";
import { asRoot, log, TEMPORARY, warnings } from "./setup.ts";

const STORE = "/var/lib/jobcast-postgres";
const OTHER_USER = { uid: 65534, gid: 65534 };
const account = asRoot ? OTHER_USER : undefined;

afterEach(() => {
  warnings.length = 0;
});

function makeFolder(): string {
  const folder = mkdtempSync(join(TEMPORARY, "jobcast-programs-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** What npm would have installed, of a few bytes, in a folder that the account may not enter. */
function makePackage({ version = "18.4.0", home = makeFolder() } = {}) {
  const folder = makeFolder();
  const bin = join(folder, "native/bin");
  for (const part of [bin, join(folder, "native/lib")]) mkdirSync(part, { recursive: true });
  const name = basename(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: `@x/${name}`, version }));
  const [initdb, pg_ctl, postgres] = ["initdb", "pg_ctl", "postgres"].map((program) => {
    const file = join(bin, program);
    writeFileSync(file, "#!/bin/sh\necho '(PostgreSQL) 18.4'\n", { mode: 0o700 });
    return file;
  }) as [string, string, string];
  writeFileSync(join(folder, "native/lib/library.so.1"), "code", { mode: 0o600 });
  symlinkSync("library.so.1", join(folder, "native/lib/library.so"));
  // Root's PostgreSQL has to get to it.
  chmodSync(home, 0o711);
  const copy = join(home, `postgres-programs-${version}-${name}`);
  const binaries: PostgresBinaries = { initdb, pg_ctl, postgres };
  return { binaries, folder, home, copy };
}

const keep = ({ binaries, home }: { binaries: PostgresBinaries; home: string }) =>
  keepPrograms(binaries, { home, account, log });

describe("the programs of PostgreSQL", () => {
  it("are run from a copy beside the cluster by whoever may not enter their folder", async () => {
    const made = makePackage();

    const { postgres } = await keep(made);

    expect(postgres).toBe(asRoot ? join(made.copy, "bin/postgres") : made.binaries.postgres);
    expect(readFileSync(join(made.copy, "bin/postgres"), "utf8")).toContain("18.4");
    expect(readlinkSync(join(made.copy, "lib/library.so"))).toBe("library.so.1");
    const modes = ["", "bin"].map((name) => statSync(join(made.copy, name)).mode & 0o777);
    expect(modes).toEqual([0o755, 0o755]);
    const files = ["bin/postgres", "lib/library.so.1"].map((name) => join(made.copy, name));
    if (asRoot) expect(files.map((file) => statSync(file).mode & 0o777)).toEqual([0o755, 0o644]);
    else expect(files.map((file) => statSync(file).nlink)).toEqual([2, 2]);
  });

  it("are kept once, and again when what was kept lacks something", async () => {
    const made = makePackage();
    await keep(made);
    const { ino } = statSync(made.copy);
    await keep(made);
    expect(statSync(made.copy).ino).toBe(ino);
    rmSync(join(made.copy, "lib/library.so.1"));
    writeFileSync(join(made.copy, "lib/library.so.1"), "");

    await keep(made);

    expect(readFileSync(join(made.copy, "lib/library.so"), "utf8")).toBe("code");
    expect(readdirSync(made.home)).toEqual([basename(made.copy)]);
  });

  it("take the place of those of the same major version, and leave another's", async () => {
    const made = makePackage();
    const others = ["18.3.0-x", "17.9.0-x", "180.1.0-x"].map((name) => `postgres-programs-${name}`);
    for (const name of [...others, "postgres-programs.copying-1"]) {
      mkdirSync(join(made.home, name));
    }

    await keep(made);

    expect(readdirSync(made.home).toSorted()).toEqual(
      [basename(made.copy), ...others.slice(1)].toSorted(),
    );
  });

  it("are found again by their major version, unless nobody kept any", async () => {
    const made = makePackage();
    await keep(made);

    const where = { home: made.home, account, log };
    expect(await keptPrograms("18", where)).toHaveProperty("initdb", `${made.copy}/bin/initdb`);
    expect(await keptPrograms("1", where)).toBeUndefined();
  });

  it.runIf(!asRoot)(
    "are run where npm has put them when there is no place to keep them",
    async () => {
      const made = makePackage();
      chmodSync(made.home, 0o500);

      expect(await keep(made)).toBe(made.binaries);

      expect(warnings).toEqual(["the programs of PostgreSQL are not kept beside its data"]);
    },
  );

  it.runIf(asRoot).each([
    ["belongs to somebody else", (folder: string) => chownSync(folder, 65534, 65534)],
    ["is open to the writing of others", (folder: string) => chmodSync(folder, 0o777)],
  ])("are kept elsewhere by root when the folder of the cluster %s", async (_, spoil) => {
    const made = makePackage();
    spoil(made.home);
    const copy = join(STORE, basename(made.copy));
    onTestFinished(() => rmSync(copy, { recursive: true, force: true }));

    const found = await Promise.all(Array.from({ length: 5 }, () => keep(made)));

    expect(new Set(found.map(({ postgres }) => postgres))).toEqual(
      new Set([join(copy, "bin/postgres")]),
    );
    expect(readdirSync(made.home)).toEqual([]);
    expect(readdirSync(STORE).filter((name) => name.includes("copying"))).toEqual([]);
  });

  it.runIf(asRoot).each([
    ["belongs to somebody else", (copy: string) => chownSync(copy, 65534, 65534)],
    ["is open to the writing of others", (copy: string) => chmodSync(copy, 0o777)],
  ])("are not run by root from a copy that %s", async (_, spoil) => {
    const made = makePackage();
    mkdirSync(made.copy);
    spoil(made.copy);

    await expect(keep(made)).rejects.toThrow(
      new RegExp(
        `may not enter ${made.folder} .*${made.copy} is not a folder that belongs to root`,
      ),
    );
    await expect(keptPrograms("18", { home: made.home, account, log })).rejects.toThrow(
      "is not a folder that belongs to root",
    );
  });
});
