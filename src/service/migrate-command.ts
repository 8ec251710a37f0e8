import { adviceOn } from "../db/connection-advice.ts";
import { migrate } from "../db/migrate.ts";
import { waitForDatabase } from "../db/wait-for-database.ts";
import type { Logger } from "../log.ts";
import type { MigrateConfig } from "./config.ts";
import { fail } from "./start-error.ts";

/**
 * `jobcast migrate`: for who migrates in a step of the deployment, and starts with MIGRATE=off.
 * @returns the names of what was run
 * @throws {StartError}
 */
export async function runMigrate(
  { databaseUrl, databaseWaitSeconds }: MigrateConfig,
  log: Logger,
  signal: AbortSignal,
): Promise<string[]> {
  try {
    await waitForDatabase([databaseUrl], { seconds: databaseWaitSeconds, signal, log });
    return await migrate({ connectionString: databaseUrl, signal, log });
  } catch (error) {
    signal.throwIfAborted();
    return fail("The database cannot be migrated: ", adviceOn(error));
  }
}
