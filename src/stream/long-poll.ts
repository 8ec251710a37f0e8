import type { News } from "../change/change.ts";
import type { Hub, Subscriber } from "./hub.ts";

export type Wait<T> = {
  readonly hub: Hub;
  readonly topics: readonly string[];
  /** What of the topics is worth a look. Default: all */
  readonly isTold?: (news: News) => boolean;
  /** Milliseconds; 0 answers at once. */
  readonly waitMs: number;
  /** The client went, or the process drains: the answer is due now. */
  readonly signal: AbortSignal;
  readonly read: () => Promise<T>;
  readonly hasNews: (answer: T) => boolean;
};

/**
 * Reads until there is news or the time is up. It subscribes before it reads, so news that comes
 * between reading and waiting is not slept over, and everything is read from the table.
 */
export async function waitForNews<T>(wait: Wait<T>): Promise<T> {
  let isRung = false;
  let ring: (() => void) | undefined;
  const bell: Subscriber = {
    enqueue({ change }) {
      isRung ||= wait.isTold?.(change) ?? true;
    },
    flush() {
      if (isRung) ring?.();
    },
  };
  const unsubscribe = wait.hub.subscribe(wait.topics, bell);
  const end = performance.now() + wait.waitMs;
  try {
    for (;;) {
      isRung = false;
      const answer = await wait.read();
      const left = end - performance.now();
      if (wait.hasNews(answer) || left <= 0 || wait.signal.aborted) return answer;
      if (isRung) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, left);
        wait.signal.addEventListener("abort", done);
        ring = done;
        function done(): void {
          clearTimeout(timer);
          wait.signal.removeEventListener("abort", done);
          ring = undefined;
          resolve();
        }
      });
    }
  } finally {
    unsubscribe();
  }
}
