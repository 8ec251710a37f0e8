/** From the first pause on doubled each time, up to the longest. Unit: milliseconds. */
export type Backoff = { readonly firstMs: number; readonly longestMs: number };

/**
 * How long to wait before the next attempt: between half and all of what the backoff says, so that
 * many who failed at once do not come back in step.
 * @param attempt 0 before the second one
 */
export function backoffMs(attempt: number, { firstMs, longestMs }: Backoff): number {
  return Math.min(longestMs, firstMs * 2 ** attempt) * (0.5 + Math.random() / 2);
}
