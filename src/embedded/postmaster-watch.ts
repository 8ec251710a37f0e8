import { isRunning, type ProcessIdentity } from "./process-identity.ts";
import type { ServerLog } from "./server-log.ts";

/** How often we look whether PostgreSQL still runs. */
const WATCH_MS = 1_000;

/**
 * Calls `onExit` once when PostgreSQL has ended, and returns what ends the watching. Nothing tells
 * us of the end of a process that is not our child, so we look.
 */
export function watchPostmaster(
  postmaster: ProcessIdentity,
  serverLog: ServerLog,
  onExit: ((reason: string) => void) | undefined,
): () => void {
  const timer = setInterval(async () => {
    if (isRunning(postmaster)) return;
    clearInterval(timer);
    const ending = await serverLog.ending().catch(String);
    onExit?.(
      `PostgreSQL (pid ${postmaster.pid}) ended without being asked to. Its log ` +
        `${serverLog.file} ends with: ${ending}`,
    );
  }, WATCH_MS).unref();
  return () => clearInterval(timer);
}
