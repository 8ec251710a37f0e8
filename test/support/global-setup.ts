import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { migrate } from "../../src/db/migrate.ts";
import { startEmbeddedPostgres } from "../../src/embedded/embedded-postgres.ts";
import { removeDataDir } from "./data-dir.ts";
import { databaseUrl, ownerUrl, withAdmin } from "./database-server.ts";

declare module "vitest" {
  interface ProvidedContext {
    /**
     * The server of this run: where it is, the migrated database that tests clone, and the password
     * of the role of the same name, which owns it and is no superuser.
     */
    database: { serverUrl: string; template: string; ownerPassword: string };
  }
}

const FOLDER_PREFIX = "jobcast-test-";

/** A run's data is thrown away, so nothing is spent on surviving a crash of the machine. */
const SETTINGS = {
  fsync: "off",
  full_page_writes: "off",
  // Two test files at a time, each with services that have a pool and a listener each.
  max_connections: "200",
};

/**
 * Gives the whole run one PostgreSQL and a migrated template in it: an embedded server that lives
 * as long as the run, or the one that TEST_DATABASE_URL names, where we must be allowed to create
 * databases. Whatever was made there is dropped in the end.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const givenUrl = process.env.TEST_DATABASE_URL;
  const server = givenUrl ? useServer(givenUrl) : await startServer();
  try {
    const template = `jobcast_test_${randomBytes(4).toString("hex")}`;
    const ownerPassword = randomBytes(16).toString("hex");
    await createTemplate(server.url, template, ownerPassword);
    project.provide("database", { serverUrl: server.url, template, ownerPassword });
    return () => server.stop(template);
  } catch (error) {
    await server.stop();
    throw error;
  }
}

type Server = { url: string; stop(template?: string): Promise<void> };

function useServer(url: string): Server {
  return {
    url,
    async stop(template) {
      if (template !== undefined) await dropDatabases(url, template);
    },
  };
}

async function startServer(): Promise<Server> {
  await removeLeftFolders();
  const folder = await mkdtemp(join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
  const endAtExit = () => endServer(folder);
  process.once("exit", endAtExit);
  const remove = async () => {
    process.off("exit", endAtExit);
    await removeDataDir(folder);
  };
  try {
    const { superuserUrl, stop } = await startEmbeddedPostgres({
      dataDir: folder,
      settings: SETTINGS,
      log: { info: () => undefined, warn: (details, text) => console.warn(text, details) },
      onExit: (reason) => console.error(`The PostgreSQL of this test run has ended: ${reason}`),
    });
    return {
      url: superuserUrl,
      async stop() {
        await stop();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/**
 * At Ctrl-C vitest exits without a teardown, and nothing may take time in its last moment: so this
 * ends the server, and the next run removes the folder.
 */
function endServer(folder: string): void {
  const pidFile = join(folder, "postgres", "postmaster.pid");
  if (!existsSync(pidFile)) return;
  process.kill(Number.parseInt(readFileSync(pidFile, "utf8"), 10), "SIGQUIT");
}

/**
 * Removes what killed runs left. PostgreSQL looks every minute whether its pid file is still there
 * and ends when it is not, so this stops the servers of those runs too.
 */
async function removeLeftFolders(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = new RegExp(`^${FOLDER_PREFIX}(\\d+)-`).exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    // Another user's folder stays where it is.
    await removeDataDir(join(tmpdir(), name)).catch(() => undefined);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function createTemplate(serverUrl: string, name: string, password: string): Promise<void> {
  await withAdmin(serverUrl, async (admin) => {
    await admin.query(`create role ${name} login password '${password}'`);
    await admin.query(`create database ${name} owner ${name}`);
  });
  await migrate({ connectionString: ownerUrl(databaseUrl(serverUrl, name), { name, password }) });
  // Nobody can connect to it any more by mistake, which would make every clone of it fail.
  await withAdmin(serverUrl, (admin) =>
    admin.query(`alter database ${name} is_template true allow_connections false`),
  );
}

async function dropDatabases(serverUrl: string, template: string): Promise<void> {
  await withAdmin(serverUrl, async (admin) => {
    await admin.query(`alter database ${template} is_template false`);
    const names = "select datname as name from pg_database where datname like $1";
    const { rows } = await admin.query<{ name: string }>(names, [`${template}%`]);
    for (const { name } of rows) await admin.query(`drop database ${name} with (force)`);
    await admin.query(`drop role ${template}`);
  });
}
