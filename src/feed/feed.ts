import type { Snapshot } from "../change/snapshot.ts";
import { isAboutRows } from "../db/change-values.ts";
import type { FeedPage, FeedSession } from "../db/feed-session.ts";
import { troubleOf } from "../db/trouble.ts";
import { backoff } from "./backoff.ts";
import type { Doorbell, FeedLog } from "./doorbell.ts";
import { WriteLoad } from "./write-load.ts";

/** A listener that waits for the bell still looks by itself this often: a bell can be lost. */
const RECONCILE_MS = 3_000;

/** How often an awake listener reads. */
const POLL_MS = 50;

/** A writer holds the sleepers' lock for a moment; who holds it for longer is named, so often. */
const KEPT_AWAKE_MS = 30_000;

/**
 * `connecting`: no session. `awake`: reads on a timer, because the bell does not work or because
 * writers are busy, and should not ring. `dozing`: holds the sleepers' lock, but a writer that looked before may still commit without ringing. `asleep`:
 * every commit rings, the timer is only for reconciliation.
 */
export type FeedState = "connecting" | "awake" | "dozing" | "asleep";

export type FeedOptions = {
  /** `bell` waits for rings whenever the doorbell works; `poll` reads on a timer and needs no LISTEN. */
  mode: "bell" | "poll";
  /** The signal ends the session, and the attempt to open it. */
  openSession: (signal: AbortSignal) => Promise<FeedSession>;
  /** Required in mode `bell`; its onRing and onChange call `ring()` and `wake()`. */
  doorbell?: Doorbell;
  /** A page of changes, in order. The last page of a read carries its snapshot. Must not throw. */
  onPage: (page: FeedPage) => void;
  /** Rejects when others of this process are elsewhere than the session. Default: never. */
  confirm?: (place: string) => Promise<void>;
  /** The database behind the connection is another one: nothing that was seen before holds. */
  onEpochChange: (epoch: string) => void;
  log: FeedLog;
  /** When there is too much to ring for. */
  load?: WriteLoad;
};

/** Another server, or another history, is behind the connection than when it was made. */
class MovedError extends Error {
  override readonly name = "MovedError";
  override readonly message = "the database behind the feed's connection is another one by now";
}

/**
 * Reads every committed change once, in order for each job, from the first snapshot on.
 *
 * The cursor is a snapshot and not a number: ids are given in the order of asking, not of
 * committing, so a reader of `id > last` skips a transaction that asked early and committed late.
 */
export class Feed {
  readonly #options: FeedOptions;
  readonly #stopping = new AbortController();
  readonly #load: WriteLoad;
  #session: FeedSession | undefined;
  #state: FeedState = "connecting";
  #since: Snapshot | undefined;
  #epoch: string | undefined;
  /** Writers below this id may not ring; asleep once all of them have ended and were read. */
  #ringsFrom = Number.POSITIVE_INFINITY;
  #endedBelow = 0;
  #lastReadAt: number | undefined;
  #confirmedAt = 0;
  /** Why the session is not to be used any more. */
  #doubt: unknown;
  #trouble: string | undefined;
  /** A row cannot be read together with others: each by itself, until that is over. */
  #isCareful = false;
  /** Since when somebody holds the sleepers' lock against us, and was not named. */
  #keptAwakeSince: number | undefined;
  #rung = false;
  #ringWaiting: (() => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
    this.#load = options.load ?? new WriteLoad();
  }

  get state(): FeedState {
    return this.#state;
  }

  /** Names the database in cursors. */
  get epoch(): string {
    if (this.#epoch === undefined) throw new TypeError("The feed was not started.");
    return this.#epoch;
  }

  /** When the feed last read everything there was, by `performance.now()`. */
  get lastReadAt(): number | undefined {
    return this.#lastReadAt;
  }

  /** Why it has no session; undefined while it has one. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Resolves when the feed has its first snapshot: every later commit will be read. */
  async start(): Promise<void> {
    await this.#connect();
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(); // ends the session too: a read may hang on a connection that is half gone
    this.ring();
    await this.#running;
  }

  /** There may be something new. Rings during a read are answered by one more read. */
  ring(): void {
    if (this.#state === "awake" && this.#load.isBusy) return; // the timer reads in a moment
    this.#rung = true;
    this.#ringWaiting?.();
  }

  async #run(): Promise<void> {
    let attempt = 0;
    while (!this.#stopping.signal.aborted) {
      try {
        const session = this.#session ?? (await this.#connect());
        await this.#read(session);
        await this.#confirm(session);
        await this.#settle(session);
        attempt = 0;
        await this.#untilNextRead();
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        this.#disconnected();
        this.#trouble = troubleOf(error);
        this.#isCareful = isAboutRows(error);
        this.#options.log.warn(
          { err: error, attempt },
          "the feed lost its session; connecting again",
        );
        await backoff(attempt++, this.#stopping.signal);
      }
    }
  }

  async #connect(): Promise<FeedSession> {
    const session = await this.#options.openSession(this.#stopping.signal);
    this.#session = session;
    session.closed.then(
      () => session === this.#session && this.ring(),
      (err) => this.#options.log.warn({ err }, "the end of a session could not be awaited"),
    );
    if (this.#epoch !== session.epoch) {
      // The snapshot first: with a new epoch and an old snapshot nothing would be right again.
      this.#since = await session.currentSnapshot();
      const isFirst = this.#epoch === undefined;
      this.#epoch = session.epoch;
      if (!isFirst) this.#options.onEpochChange(session.epoch);
    }
    this.#state = "awake";
    this.#trouble = undefined;
    this.#doubt = undefined;
    this.#confirmedAt = performance.now();
    return session;
  }

  /** Now and then: is the database behind the session still the one that it was? */
  async #confirm(session: FeedSession): Promise<void> {
    if (this.#doubt !== undefined) throw this.#doubt;
    if (performance.now() - this.#confirmedAt < RECONCILE_MS) return;
    this.#confirmedAt = performance.now();
    if ((await session.currentEpoch()) !== session.epoch) throw new MovedError();
    // The others may be long in answering, and the feed waits for nobody.
    this.#options.confirm?.(await session.currentPlace()).catch((error: unknown) => {
      if (session !== this.#session) return;
      this.#doubt = error;
      this.ring();
    });
  }

  #disconnected(): void {
    this.#session?.destroy();
    this.#session = undefined;
    this.#state = "connecting"; // the lock went with the session
  }

  async #read(session: FeedSession): Promise<void> {
    this.#rung = false;
    if (!this.#since) throw new TypeError("The feed has no snapshot.");
    let transactions = 0;
    for await (const page of session.read(this.#since, this.#isCareful)) {
      this.#options.onPage(page);
      transactions += new Set(page.changes.map(({ xid }) => xid)).size;
      if (page.snapshot) this.#since = page.snapshot;
      if (page.endedBelow) this.#endedBelow = page.endedBelow;
    }
    this.#isCareful = false;
    this.#load.add(transactions);
    this.#lastReadAt = performance.now();
  }

  /** Goes to sleep in two steps, and wakes when the bell does not work or would ring all the time. */
  async #settle(session: FeedSession): Promise<void> {
    const { mode, doorbell } = this.#options;
    const isRungFor = this.#state === "dozing" || this.#state === "asleep";
    if (isRungFor && this.#load.shouldAsk() && (await session.areRingersQueued())) {
      this.#load.queued();
    }
    const maySleep = mode === "bell" && doorbell?.isListening === true && !this.#load.isBusy;
    if (!maySleep) {
      if (this.#state === "awake") return;
      await session.unlockBell();
      this.#state = "awake";
    } else if (this.#state === "awake") {
      const ringsFrom = await session.lockBell();
      if (ringsFrom === undefined) return this.#keptAwake(session);
      this.#keptAwakeSince = undefined;
      this.#ringsFrom = ringsFrom;
      this.#state = "dozing";
    } else if (this.#state === "dozing" && this.#endedBelow > this.#ringsFrom) {
      this.#state = "asleep";
    }
  }

  /** Reading on a timer misses nothing, but somebody should know why it is done. */
  async #keptAwake(session: FeedSession): Promise<void> {
    this.#keptAwakeSince ??= performance.now();
    if (performance.now() - this.#keptAwakeSince < KEPT_AWAKE_MS) return;
    this.#keptAwakeSince = performance.now();
    const holders = await session.bellHolders();
    this.#options.log.warn(
      { holders },
      "the sleepers' lock is held against us: reading on a timer",
    );
  }

  /** Until somebody rings or the timer of this state is up. */
  async #untilNextRead(): Promise<void> {
    if (this.#rung || this.#stopping.signal.aborted) return;
    const poll = this.#load.isBusy ? this.#load.pollMs : POLL_MS;
    const wait = this.#state === "asleep" ? RECONCILE_MS : poll;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#ringWaiting = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#ringWaiting = undefined;
  }
}
