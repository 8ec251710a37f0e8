/** Somebody who takes bytes more slowly than they come. */
export type Holder = {
  /** Bytes that were handed to its socket since it began. */
  readonly handed: number;
  /** Those of them that the kernel has not taken. */
  readonly unsent: number;
  /** Gives it up, with all that it has not taken. */
  cut(): void;
};

/** Bytes as they lie in memory: the same object is the same bytes. */
export type Part = { readonly length: number };

type Held = {
  readonly bytes: Part;
  readonly end: number;
  /** By a clock that nobody sets. Unit: milliseconds. */
  readonly since: number;
};

/** So that of those who came together the size decides. */
const FRESH_MS = 100;

/**
 * The bytes that wait for slow clients, all of them together. Each client has its own limit, and ten
 * thousand of those would still be more than a process has. The same bytes for many are counted
 * once, as they lie in memory once.
 */
export class Unsent {
  readonly #limit: number;
  readonly #holders = new Map<Holder, Held[]>();
  readonly #counts = new Map<Part, number>();
  readonly #now: () => number;
  #total = 0;

  /**
   * @param limit bytes; above it those are cut who have held the most for the longest: what a client
   *   takes costs little, however large it is
   */
  constructor(limit: number, now = () => performance.now()) {
    this.#limit = limit;
    this.#now = now;
  }

  get total(): number {
    return this.#total;
  }

  /**
   * Counts what a client has been or will be handed, until it has taken it.
   * @param from how much it had been handed before these
   */
  hold(holder: Holder, parts: readonly Part[], from: number): void {
    const held = this.#holders.get(holder) ?? [];
    this.#holders.set(holder, held);
    const since = this.#now();
    let end = from;
    for (const bytes of parts) {
      end += bytes.length;
      held.push({ bytes, end, since });
      const count = this.#counts.get(bytes) ?? 0;
      if (count === 0) this.#total += bytes.length;
      this.#counts.set(bytes, count + 1);
    }
    if (this.#total > this.#limit) this.#makeRoom();
  }

  /** It has gone: with all that it held. */
  release(holder: Holder): void {
    for (const { bytes } of this.#holders.get(holder) ?? []) this.#drop(bytes);
    this.#holders.delete(holder);
  }

  /** Lets go of what was taken since the last time. */
  sweep(): void {
    for (const [holder, held] of this.#holders) {
      const taken = holder.handed - holder.unsent;
      const first = held.findIndex(({ end }) => end > taken);
      for (const { bytes } of held.splice(0, first === -1 ? held.length : first)) this.#drop(bytes);
      if (held.length === 0) this.#holders.delete(holder);
    }
  }

  #drop(bytes: Part): void {
    const count = this.#counts.get(bytes) ?? 0;
    if (count > 1) {
      this.#counts.set(bytes, count - 1);
      return;
    }
    this.#counts.delete(bytes);
    if (count === 1) this.#total -= bytes.length;
  }

  #makeRoom(): void {
    this.sweep();
    if (this.#total <= this.#limit) return;
    const costs = [...this.#holders].map(([holder, held]) => ({
      holder,
      cost: this.#costOf(held),
    }));
    costs.sort((one, other) => other.cost - one.cost);
    for (const { holder } of costs) {
      if (this.#total <= this.#limit) return;
      this.release(holder);
      holder.cut();
    }
  }

  /** Bytes by the time for which the oldest of them have waited. */
  #costOf(held: readonly Held[]): number {
    const [oldest] = held;
    const age = oldest ? this.#now() - oldest.since : 0;
    return held.reduce((sum, { bytes }) => sum + bytes.length, 0) * (age + FRESH_MS);
  }
}
