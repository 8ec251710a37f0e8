import { JobcastError } from "../errors.ts";
import { Lane, type LaneState } from "./lane.ts";
import type { Query } from "./query.ts";
import type { Work } from "./session-settings.ts";
import { isLocked, type Turn } from "./turns.ts";

export type LanesOptions = {
  readonly connectionString: string;
  /** Connections for requests and streams; our own work has two beside them. */
  readonly size: number;
  readonly onError: (error: Error) => void;
};

/** Statements that change something; a lock that somebody holds is waited for half a second. */
export type Writes = { for(turn: Turn): Query };

/** How long one waits for a place among those who wait for a lock. */
const LOCKED_MS = 1_000;

/** How often a lane that nobody uses is asked whether the database still answers. */
const PROBE_MS = 2_000;

/**
 * The connections of this process, by what they are for: what streams read, what requests read,
 * what requests write, and what the service does by itself. None can take another one's.
 */
export class Lanes {
  readonly streams: Lane;
  readonly reads: Lane;
  /** A third of their connections are for those who wait for a lock. */
  readonly writes: Writes;
  readonly service: Lane;
  readonly #quick: Lane;
  readonly #waiting: Lane;
  #timer: NodeJS.Timeout | undefined;

  constructor({ connectionString, size, onError }: LanesOptions) {
    const quarter = Math.max(1, Math.floor(size / 4));
    const half = Math.max(2, size - 2 * quarter);
    const waiting = Math.max(1, Math.floor(half / 3));
    const lane = (name: string, work: Work, places: number, waitMs?: number) =>
      new Lane({ connectionString, name: `jobcast ${name}`, work, size: places, waitMs, onError });
    this.streams = lane("streams", "read", quarter);
    this.reads = lane("reads", "read", quarter);
    this.#quick = lane("writes", "write", half - waiting);
    this.#waiting = lane("waiting writes", "waiting write", waiting, LOCKED_MS);
    this.writes = { for: (turn) => withLockRetry(this.#quick.for(turn), this.#waiting.for(turn)) };
    this.service = lane("service", "service", 2);
  }

  /**
   * Keeps asking, so that `state` knows about lanes that nobody uses. Resolves when each has been
   * asked once.
   */
  async start(): Promise<void> {
    await Promise.all(this.#all().map((lane) => lane.probe(PROBE_MS)));
    this.#timer ??= setInterval(() => this.#probe(), PROBE_MS);
    this.#timer.unref();
  }

  /** By name, for health and metrics. */
  state(): Readonly<Record<"streams" | "reads" | "writes" | "waiting" | "service", LaneState>> {
    return {
      streams: this.streams.state(),
      reads: this.reads.state(),
      writes: this.#quick.state(),
      waiting: this.#waiting.state(),
      service: this.service.state(),
    };
  }

  /** The database is another one by now, or may be: every connection is made anew. */
  renew(): void {
    for (const lane of this.#all()) lane.renew();
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#all().map((lane) => lane.end()));
  }

  #all(): Lane[] {
    return [this.streams, this.reads, this.#quick, this.#waiting, this.service];
  }

  #probe(): void {
    for (const lane of this.#all()) {
      // A failure is what `state` tells: the lane has not answered.
      lane.probe(PROBE_MS).catch(() => undefined);
    }
  }
}

/**
 * Who finds what he would change locked begins again among others who wait, so that many who wait for
 * as many open transactions keep nobody from a place who would wait for none.
 * @throws what he found first, where there is no place in time: nothing was done
 */
function withLockRetry(quick: Query, waiting: Query): Query {
  return async (text, values) => {
    try {
      return await quick(text, values);
    } catch (locked) {
      if (!isLocked(locked)) throw locked;
      return await waiting<never>(text, values).catch((error: unknown) => {
        throw error instanceof JobcastError && error.code === "overloaded" ? locked : error;
      });
    }
  };
}
