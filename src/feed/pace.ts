/** How long transactions are counted before they are judged. */
const WINDOW_MS = 250;

/**
 * Tells whether transactions come so fast that ringing for each costs more than it saves: a
 * commit that notifies takes a lock for the whole cluster, and every ring costs a read.
 */
export class Pace {
  readonly #busyAbove: number;
  readonly #calmBelow: number;
  #startedAt = performance.now();
  #count = 0;
  #isBusy = false;

  /**
   * Transactions a second above which it is busy, and below which it is calm again. Below 1,500 a
   * ring is heard within a millisecond or two, which no timer matches.
   */
  constructor({ busyAbove = 1_500, calmBelow = 750 } = {}) {
    this.#busyAbove = busyAbove;
    this.#calmBelow = calmBelow;
  }

  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Counts the transactions of one read, which may be none. */
  add(transactions: number): void {
    this.#count += transactions;
    const now = performance.now();
    const ms = now - this.#startedAt;
    if (ms < WINDOW_MS) return;
    const perSecond = (this.#count * 1_000) / ms;
    this.#isBusy = perSecond > (this.#isBusy ? this.#calmBelow : this.#busyAbove);
    this.#startedAt = now;
    this.#count = 0;
  }
}
