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

type Held = { readonly bytes: Part; readonly end: number };

/**
 * The bytes that wait for slow clients, all of them together. Each client has its own limit, and ten
 * thousand of those would still be more than a process has. The same bytes for many are counted
 * once, as they lie in memory once.
 */
export class Unsent {
  readonly #limit: number;
  readonly #holders = new Map<Holder, Held[]>();
  readonly #counts = new Map<Part, number>();
  #total = 0;

  /** @param limit bytes; above it those who hold the most are cut */
  constructor(limit: number) {
    this.#limit = limit;
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
    let end = from;
    for (const bytes of parts) {
      end += bytes.length;
      held.push({ bytes, end });
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
    const sizes = [...this.#holders].map(([holder, held]) => ({
      holder,
      size: held.reduce((sum, { bytes }) => sum + bytes.length, 0),
    }));
    sizes.sort((one, other) => other.size - one.size);
    for (const { holder } of sizes) {
      if (this.#total <= this.#limit) return;
      this.release(holder);
      holder.cut();
    }
  }
}
