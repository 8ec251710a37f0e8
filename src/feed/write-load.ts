/** How long transactions are counted before they are judged. */
const WINDOW_MS = 250;

/** How often it is asked whether writers wait for each other, and after how many transactions. */
const ASK_MS = 100;
const ASK_TRANSACTIONS = 5;

/** For how long the feed stays awake because they did: at first, and at most. */
const AWAKE_MS = 5_000;
const LONGEST_AWAKE_MS = 60_000;

/** Who waits again so soon after the feed fell asleep waits because of that. */
const RELAPSE_MS = 2_000;

/** Below so many transactions a second nobody waits for anybody. */
const IDLE_BELOW = 20;

/** How often a listener reads that is awake because of the load: while reads bring something, and else. */
const PAYING_POLL_MS = 2;
const BUSY_POLL_MS = 10;

/**
 * Tells whether ringing costs more than it saves: a commit that notifies takes a lock for the whole
 * cluster and holds it across its flush, and every ring costs a read. So it is busy when
 * transactions come fast, and for a while after writers were seen that queued for that lock: a queue
 * is itself what keeps transactions from coming fast.
 */
export class WriteLoad {
  readonly #busyAbove: number;
  readonly #calmBelow: number;
  readonly #now: () => number;
  #windowStart: number;
  #count = 0;
  #isFast = false;
  #awakeUntil = Number.NEGATIVE_INFINITY;
  #awakeMs = AWAKE_MS;
  #askedAt = Number.NEGATIVE_INFINITY;
  #sinceAsked = 0;
  #broughtSomething = false;

  /**
   * Transactions a second above which it is busy, and below which it is calm again. Below 1,500 a
   * ring is heard within a millisecond or two, which no timer matches.
   */
  constructor({ busyAbove = 1_500, calmBelow = 750, now = () => performance.now() } = {}) {
    this.#busyAbove = busyAbove;
    this.#calmBelow = calmBelow;
    this.#now = now;
    this.#windowStart = now();
  }

  get isBusy(): boolean {
    return this.#isFast || this.#now() < this.#awakeUntil;
  }

  /** Milliseconds to the next read while it is busy. */
  get pollMs(): number {
    return this.#broughtSomething ? PAYING_POLL_MS : BUSY_POLL_MS;
  }

  /** Counts the transactions of one read, which may be none. */
  add(transactions: number): void {
    this.#broughtSomething = transactions > 0;
    this.#count += transactions;
    this.#sinceAsked += transactions;
    const now = this.#now();
    const ms = now - this.#windowStart;
    if (ms < WINDOW_MS) return;
    const perSecond = (this.#count * 1_000) / ms;
    this.#isFast = perSecond > (this.#isFast ? this.#calmBelow : this.#busyAbove);
    if (perSecond < IDLE_BELOW) this.#awakeUntil = Math.min(this.#awakeUntil, now);
    this.#windowStart = now;
    this.#count = 0;
  }

  /** Whether it is time to look if writers wait for each other; counts as having looked. */
  shouldAsk(): boolean {
    const now = this.#now();
    if (this.#sinceAsked < ASK_TRANSACTIONS || now - this.#askedAt < ASK_MS) return false;
    this.#askedAt = now;
    this.#sinceAsked = 0;
    return true;
  }

  /** Writers wait for each other to ring. */
  queued(): void {
    const now = this.#now();
    const isRelapse = now - this.#awakeUntil < RELAPSE_MS;
    this.#awakeMs = isRelapse ? Math.min(LONGEST_AWAKE_MS, this.#awakeMs * 2) : AWAKE_MS;
    this.#awakeUntil = now + this.#awakeMs;
  }
}
