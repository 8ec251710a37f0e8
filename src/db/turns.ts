import { JobcastError } from "../errors.ts";
import { Tally } from "../tally.ts";

/** For whom something is done: his other requests may have to wait for it, and other people's not. */
export type Turn = {
  /** Undefined: for us, who share nobody's part. */
  readonly owner?: string | undefined;
  /** A row that is locked while it is written: one at a time, or all of them would wait in there. */
  readonly job?: string | undefined;
};

type Waiting = {
  readonly turn: Turn;
  readonly start: () => void;
  readonly refuse: (error: unknown) => void;
};

/** How long somebody waits for his turn, unless told, before he is told that there is too much to do. */
const WAIT_MS = 5_000;

/** More than this many would wait in vain; and half of them are for more than one owner. */
const MAX_WAITING = 2_000;

/**
 * Shares a few connections between owners: whoever has many under way, because they wait for a lock
 * or are slow, gets the next one after those who have few, and never all of them.
 */
export class Turns {
  readonly #size: number;
  readonly #waitMs: number;
  readonly #owners = new Tally();
  readonly #jobs = new Set<string>();
  #running = 0;
  #waiting: Waiting[] = [];

  constructor(size: number, waitMs = WAIT_MS) {
    this.#size = size;
    this.#waitMs = waitMs;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** @throws {JobcastError} overloaded, when the turn does not come in time */
  async run<T>(turn: Turn, work: () => Promise<T>): Promise<T> {
    await this.#come(turn);
    try {
      return await work();
    } catch (error) {
      if (turn.job !== undefined && isLocked(error)) this.#refuseAll(turn.job, error);
      throw error;
    } finally {
      this.#end(turn);
    }
  }

  async #come(turn: Turn): Promise<void> {
    if (this.#waiting.length === 0 && this.#mayStart(turn)) return this.#start(turn);
    if (!this.#mayWait(turn)) throw overloaded();
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter((other) => other !== waiting);
        reject(overloaded());
      }, this.#waitMs);
      const waiting: Waiting = {
        turn,
        start: () => {
          clearTimeout(timer);
          resolve();
        },
        refuse: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.#waiting.push(waiting);
      this.#startNext();
    });
  }

  /** The more of them are free, the more one owner may have. */
  #mayStart({ owner, job }: Turn): boolean {
    const free = this.#size - this.#running;
    if (free <= 0 || (job !== undefined && this.#jobs.has(job))) return false;
    return owner === undefined || this.#owners.of(owner) < 2 * free;
  }

  #mayWait({ owner }: Turn): boolean {
    const places = MAX_WAITING - this.#waiting.length;
    if (owner === undefined || this.#waiting.length < places) return places > 0;
    return this.#waiting.filter(({ turn }) => turn.owner === owner).length < places;
  }

  #start({ owner, job }: Turn): void {
    this.#running += 1;
    if (owner !== undefined) this.#owners.add(owner, 1);
    if (job !== undefined) this.#jobs.add(job);
  }

  #end({ owner, job }: Turn): void {
    this.#running -= 1;
    if (job !== undefined) this.#jobs.delete(job);
    if (owner !== undefined) this.#owners.add(owner, -1);
    this.#startNext();
  }

  /** In the order of their coming, as far as they may. */
  #startNext(): void {
    for (const waiting of this.#waiting) {
      if (this.#running >= this.#size) return;
      if (!this.#mayStart(waiting.turn)) continue;
      this.#waiting = this.#waiting.filter((other) => other !== waiting);
      this.#start(waiting.turn);
      waiting.start();
    }
  }

  /** Who waited for the one that found the job locked would find the same, one after the other. */
  #refuseAll(job: string, error: unknown): void {
    const refused = this.#waiting.filter(({ turn }) => turn.job === job);
    this.#waiting = this.#waiting.filter(({ turn }) => turn.job !== job);
    for (const { refuse } of refused) refuse(error);
  }
}

/** [PostgreSQL, Appendix A] 55P03 lock_not_available */
export function isLocked(error: unknown): boolean {
  return error instanceof Error && (error as { code?: unknown }).code === "55P03";
}

function overloaded(): JobcastError {
  return new JobcastError("overloaded", "There is too much to do just now; try again.");
}
