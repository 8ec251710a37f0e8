import type { Allowance } from "./allowance.ts";
import type { OutgoingChange } from "./frames.ts";

/** What one subscriber may park; with more than that it reads on instead. */
const MAX_BYTES = 64 * 1_024;

/**
 * Live changes that wait for a replay to end. They are kept as long as they are few and small: the
 * table has them all, and they are read from it page by page.
 */
export class Parked {
  readonly #allowance: Allowance;
  #changes: OutgoingChange[] = [];
  #bytes = 0;
  #isIncomplete = false;

  /** @param allowance what all subscribers may park together */
  constructor(allowance: Allowance) {
    this.#allowance = allowance;
  }

  /** Whether something was not kept since the last `clear`. */
  get isIncomplete(): boolean {
    return this.#isIncomplete;
  }

  add(change: OutgoingChange): void {
    if (this.#isIncomplete) return;
    const { bytes } = change;
    const isHere = change.change.json !== undefined;
    if (isHere && this.#bytes + bytes <= MAX_BYTES && this.#allowance.take(bytes)) {
      this.#changes.push(change);
      this.#bytes += bytes;
    } else {
      this.#isIncomplete = true;
      this.#empty();
    }
  }

  /** Forgets everything: what comes next is read from the table. */
  clear(): void {
    this.#isIncomplete = false;
    this.#empty();
  }

  /** Gives back what was kept, in its order. */
  takeAll(): OutgoingChange[] {
    const changes = this.#changes;
    this.#empty();
    return changes;
  }

  #empty(): void {
    this.#allowance.give(this.#bytes);
    this.#bytes = 0;
    this.#changes = [];
  }
}
