import { setTimeout as delay } from "node:timers/promises";
import { type Backoff, backoffMs } from "../backoff.ts";

const RECONNECT: Backoff = { firstMs: 100, longestMs: 5_000 };

/** Waits before the next attempt to connect. Returns early when aborted. */
export async function backoff(attempt: number, signal: AbortSignal): Promise<void> {
  // Aborted: stop waiting.
  await delay(backoffMs(attempt, RECONNECT), undefined, { signal }).catch(() => undefined);
}
