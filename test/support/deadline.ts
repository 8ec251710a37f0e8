/** Thrown when something that a test waits for did not come in time. */
export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

/** How long a wait lasts unless its caller says otherwise. Unit: milliseconds. */
export const DEFAULT_DEADLINE_MS = 10_000;

const POLL_MS = 10;

/**
 * Settles as `promise` does, if it does so within `ms` milliseconds.
 *
 * `what` ends the sentence "waited 500 ms for ..."; give a function where the sentence should tell
 * the state at the moment of the failure.
 *
 * @throws {DeadlineError} when the time is over first. The promise itself goes on unobserved.
 */
export async function within<T>(
  promise: PromiseLike<T>,
  ms: number,
  what: string | (() => string),
): Promise<T> {
  const late = Symbol("late");
  let timer: NodeJS.Timeout | undefined;
  const alarm = new Promise<typeof late>((resolve) => {
    timer = setTimeout(resolve, ms, late);
  });
  try {
    const first = await Promise.race([promise, alarm]);
    // Thrown here and not in the timer, so that the stack still names the test that waited.
    if (first === late) throw new DeadlineError(sentence(ms, what));
    return first;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Asks `check` every 10 ms until it answers something else than `undefined` or `false`, and returns
 * that. Only for what has no event of its own to wait for, such as a row of pg_stat_activity.
 *
 * @throws {DeadlineError} when `ms` milliseconds are over, also while `check` itself hangs.
 * @throws whatever `check` throws, at once.
 */
export async function until<T>(
  check: () => Promise<T> | T,
  ms: number,
  what: string | (() => string),
): Promise<Exclude<T, undefined | false>> {
  const end = performance.now() + ms;
  for (;;) {
    const left = Math.max(0, end - performance.now());
    const answer = await within(Promise.resolve(check()), left, () => sentence(ms, what));
    if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>;
    if (performance.now() >= end) throw new DeadlineError(sentence(ms, what));
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function sentence(ms: number, what: string | (() => string)): string {
  return `waited ${ms} ms for ${typeof what === "string" ? what : what()}`;
}
