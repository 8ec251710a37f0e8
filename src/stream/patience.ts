import { setTimeout as delay } from "node:timers/promises";
import { isPassing } from "../errors.ts";

const FIRST_MS = 50;
const LONGEST_MS = 2_000;

/**
 * Reads, and again after a growing and jittered pause when the read fails, as long as somebody
 * wants the answer: a database that is away for a while must not end a stream.
 * @returns undefined when it was no longer wanted
 * @throws what no pause will change: what the read found out about the request, or a mistake of ours
 */
export async function readPatiently<T>(
  read: () => Promise<T>,
  isWanted: () => boolean,
  onError: (error: unknown) => void,
): Promise<T | undefined> {
  for (let pause = FIRST_MS; isWanted(); pause = Math.min(LONGEST_MS, pause * 2)) {
    try {
      return await read();
    } catch (error) {
      if (!isPassing(error)) throw error;
      onError(error);
      await delay(pause * (0.5 + Math.random() / 2));
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
  const answer = await readPatiently(
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
