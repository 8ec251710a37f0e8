import { setTimeout as delay } from "node:timers/promises";
import { type Backoff, backoffMs } from "../backoff.ts";
import { isPassing } from "../errors.ts";

const RETRY: Backoff = { firstMs: 50, longestMs: 2_000 };

/**
 * Reads, and again after a growing and jittered pause when the read fails, as long as somebody
 * wants the answer: a database that is away for a while must not end a stream.
 * @returns undefined when it was no longer wanted
 * @throws what no pause will change: what the read found out about the request, or a mistake of ours
 */
export async function readWithRetry<T>(
  read: () => Promise<T>,
  isWanted: () => boolean,
  onError: (error: unknown) => void,
): Promise<T | undefined> {
  for (let attempt = 0; isWanted(); attempt += 1) {
    try {
      return await read();
    } catch (error) {
      if (!isPassing(error)) throw error;
      onError(error);
      await delay(backoffMs(attempt, RETRY));
    }
  }
  return undefined;
}

/** Thrown in place of an answer that nobody waits for any more; not a failure. */
export class ClientGoneError extends Error {
  override readonly name = "ClientGoneError";
}

/** How long a request waits for a database that is away before it is refused. */
const REQUEST_MS = 10_000;

/**
 * Reads for a request that has no answer yet. A native EventSource never comes back from a 503,
 * so a short absence of the database is waited for.
 * @throws what the last attempt threw, once the time is up
 * @throws {ClientGoneError}
 */
export async function readForRequest<T>(
  read: () => Promise<T>,
  gone: AbortSignal,
  onError: (error: unknown) => void,
): Promise<T> {
  const end = performance.now() + REQUEST_MS;
  let lastError: unknown;
  const answer = await readWithRetry(
    async () => ({ value: await read() }),
    () => !gone.aborted && performance.now() < end,
    (error) => {
      lastError = error;
      onError(error);
    },
  );
  if (answer) return answer.value;
  throw gone.aborted ? new ClientGoneError() : lastError;
}
