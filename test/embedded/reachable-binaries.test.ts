import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { PostgresBinaries } from "../../src/embedded/postgres-binaries.ts";
import { reachableBinaries } from "../../src/embedded/reachable-binaries.ts";
import { asRoot, TEMPORARY } from "./setup.ts";

const STORE = "/var/lib/jobcast-postgres";
const OTHER_USER = { uid: 65534, gid: 65534 };
const account = asRoot ? OTHER_USER : undefined;

/** What npm would have installed, of a few bytes, in a folder that the account may not enter. */
function makePackage() {
  const folder = mkdtempSync(join(TEMPORARY, "jobcast-binaries-"));
  const bin = join(folder, "native/bin");
  for (const part of [bin, join(folder, "native/lib")]) mkdirSync(part, { recursive: true });
  const name = basename(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: `@x/${name}`, version: "1" }));
  writeFileSync(join(bin, "postgres"), "#!/bin/sh\necho 18\n", { mode: 0o700 });
  writeFileSync(join(folder, "native/lib/library.so.1"), "code", { mode: 0o600 });
  symlinkSync("library.so.1", join(folder, "native/lib/library.so"));
  const [initdb, pg_ctl, postgres] = [
    join(bin, "initdb"),
    join(bin, "pg_ctl"),
    join(bin, "postgres"),
  ];
  const copy = join(STORE, `${name}-1`);
  onTestFinished(() => {
    for (const made of [folder, copy]) rmSync(made, { recursive: true, force: true });
  });
  return { binaries: { initdb, pg_ctl, postgres } satisfies PostgresBinaries, folder, copy };
}

describe("binaries in a folder that only their owner may enter", () => {
  it("are copied for the user that root's PostgreSQL runs as, and for nobody else", async () => {
    const { binaries, copy } = makePackage();

    const reachable = await reachableBinaries(binaries, account);

    if (!asRoot) {
      expect(reachable).toBe(binaries);
      expect(() => lstatSync(copy)).toThrow("ENOENT");
      return;
    }
    expect(reachable.postgres).toBe(join(copy, "bin/postgres"));
    expect(readFileSync(reachable.postgres, "utf8")).toBe("#!/bin/sh\necho 18\n");
    expect(readlinkSync(join(copy, "lib/library.so"))).toBe("library.so.1");
    const modes = ["", "bin", "bin/postgres", "lib/library.so.1"].map(
      (name) => statSync(join(copy, name)).mode & 0o777,
    );
    expect(modes).toEqual([0o755, 0o755, 0o755, 0o644]);
  });

  it.runIf(asRoot)("are copied into one folder by whoever asks at the same time", async () => {
    const { binaries, copy } = makePackage();

    const found = await Promise.all(
      Array.from({ length: 5 }, () => reachableBinaries(binaries, account)),
    );

    expect(new Set(found.map(({ postgres }) => postgres))).toEqual(
      new Set([`${copy}/bin/postgres`]),
    );
    expect(readdirSync(STORE).filter((name) => name.startsWith(basename(copy)))).toEqual([
      basename(copy),
    ]);
  });

  it.runIf(asRoot)("are copied once, and again when the copy lacks something", async () => {
    const { binaries, copy } = makePackage();
    await reachableBinaries(binaries, account);
    const { ino } = statSync(copy);
    await reachableBinaries(binaries, account);
    expect(statSync(copy).ino).toBe(ino);
    truncateSync(join(copy, "lib/library.so.1"));

    await reachableBinaries(binaries, account);

    expect(readFileSync(join(copy, "lib/library.so"), "utf8")).toBe("code");
    expect(readdirSync(STORE).filter((name) => name.startsWith(basename(copy)))).toEqual([
      basename(copy),
    ]);
  });

  it.runIf(asRoot).each([
    ["belongs to somebody else", (copy: string) => chownSync(copy, 65534, 65534)],
    ["is open to the writing of others", (copy: string) => chmodSync(copy, 0o777)],
  ])("are not run from a copy that %s", async (_, spoil) => {
    const { binaries, copy, folder } = makePackage();
    mkdirSync(copy);
    spoil(copy);

    await expect(reachableBinaries(binaries, account)).rejects.toThrow(
      new RegExp(`may not enter ${folder} .*${copy} is not a folder that belongs to root`),
    );
  });
});
