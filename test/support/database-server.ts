import pg from "pg";
import { until } from "./deadline.ts";

const CLONE_MS = 30_000;
const OBJECT_IN_USE = "55006";

/** The URL of another database on the same server. */
export function databaseUrl(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}

/** The same database for another role. */
export function ownerUrl(url: string, role: { name: string; password: string }): string {
  const owner = new URL(url);
  owner.username = role.name;
  owner.password = role.password;
  return owner.href;
}

/** Lends a connection to the server's own database, for what concerns whole databases. */
export async function withAdmin<T>(
  serverUrl: string,
  work: (admin: pg.Client) => Promise<T>,
): Promise<T> {
  const admin = new pg.Client({
    connectionString: serverUrl,
    application_name: "jobcast tests",
    connectionTimeoutMillis: 10_000,
  });
  // What it reports after a failure that `connect` or `query` has thrown already.
  admin.on("error", () => undefined);
  try {
    await admin.connect();
    return await work(admin);
  } finally {
    await admin.end();
  }
}

/**
 * Clones a database, by default for whoever does it. Clones of one template may be made side by side,
 * but not while anybody is connected to it, be it a worker of autovacuum: then it tries again.
 *
 * @throws {DeadlineError} when the template is still in use after half a minute.
 */
export async function cloneDatabase(
  admin: Pick<pg.Client, "query">,
  template: string,
  name: string,
  owner = "default",
): Promise<void> {
  const attempt = async () => {
    try {
      await admin.query(`create database ${name} template ${template} owner ${owner}`);
      return true;
    } catch (error) {
      if (error instanceof pg.DatabaseError && error.code === OBJECT_IN_USE) return false;
      throw error;
    }
  };
  await until(attempt, CLONE_MS, `a clone of ${template}, which somebody uses`);
}
