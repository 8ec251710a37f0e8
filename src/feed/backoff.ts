import { setTimeout as delay } from "node:timers/promises";

const FIRST_MS = 100;
const LONGEST_MS = 5_000;

/**
 * Waits before the next attempt: 100 ms doubled each time up to 5 s, and between half and all of
 * it, so that many processes do not come back in step. Returns early when aborted.
 */
export async function backoff(attempt: number, signal: AbortSignal): Promise<void> {
  const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  const wait = longest * (0.5 + Math.random() / 2);
  await delay(wait, undefined, { signal }).catch(() => undefined); // aborted: stop waiting
}
