import { JobcastError } from "./errors.ts";

/** What the parts write to; a pino logger is one. */
export type EventLog = {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
};

/** After so long without another one it is over. */
const QUIET_MS = 10_000;

/** What does not end is said again now and then: the first line may be gone by then. */
const REMINDER_MS = 600_000;

type Episode = {
  readonly since: number;
  readonly timer: NodeJS.Timeout;
  times: number;
  toldAt: number;
};

/**
 * A log for what goes wrong a thousand times at once, as everything does while a database is away: of
 * warnings in the same words the first is written, and when there have been no more for ten seconds,
 * how many there were. Without a stack where it is not the program that is wrong.
 */
export function calm(log: EventLog): EventLog {
  const episodes = new Map<string, Episode>();

  function end(message: string): void {
    const { since, times } = episodes.get(message) ?? { since: 0, times: 0 };
    episodes.delete(message);
    if (times === 1) return;
    const seconds = Math.round((performance.now() - since - QUIET_MS) / 1_000);
    log.info({ times, seconds }, `no longer: ${message}`);
  }

  return {
    info: (details, message) => log.info(details, message),
    error: (details, message) => log.error(details, message),
    warn(details, message) {
      const episode = episodes.get(message);
      const now = performance.now();
      if (episode) {
        episode.times += 1;
        episode.timer.refresh();
        if (now - episode.toldAt < REMINDER_MS) return;
        episode.toldAt = now;
      } else {
        const timer = setTimeout(end, QUIET_MS, message);
        timer.unref();
        episodes.set(message, { since: now, timer, times: 1, toldAt: now });
      }
      log.warn(withoutStack(details), message);
    },
  };
}

function withoutStack({ err, ...details }: { err?: unknown }): object {
  if (!(err instanceof Error)) return err === undefined ? details : { ...details, err };
  return isForeseen(err) ? { ...details, reason: reasonOf(err) } : { ...details, err };
}

/** Something out there is wrong, and not the program. */
function isForeseen(error: Error): boolean {
  if (error instanceof JobcastError) return error.code !== "internal";
  return !MISTAKES.some((kind) => error instanceof kind);
}

const MISTAKES = [TypeError, RangeError, ReferenceError, SyntaxError];

/** What happened, and why, and why that: "The database did not answer: connect ECONNREFUSED". */
function reasonOf(error: Error): string {
  const { message, code, cause } = error as Error & { code?: unknown };
  const isNamed = typeof code !== "string" || message.includes(code);
  const own = isNamed ? message || error.name : `${message} (${code})`;
  return cause instanceof Error ? `${own}: ${reasonOf(cause)}` : own;
}

const COUNTED_ONLY = Symbol("counted only");

/** Keeps the request of this answer from having a line of its own: what is wrong with it is counted. */
export function countOnly(res: object): void {
  (res as { [COUNTED_ONLY]?: true })[COUNTED_ONLY] = true;
}

export function isCountedOnly(res: object): boolean {
  return COUNTED_ONLY in res;
}
