import { setTimeout as delay } from "node:timers/promises";
import { JobcastError } from "../errors.ts";
import { Tally } from "../tally.ts";
import { Allowance } from "./allowance.ts";
import type { CutReason, EventKind, EventStream } from "./event-stream.ts";
import { type Frame, pingFrame } from "./frames.ts";
import { Unsent } from "./unsent.ts";

export type Transport = "sse" | "long-poll";

export type RegistryOptions = {
  readonly heartbeatMs: number;
  /** Middle of the jittered delay that clients are told to wait before they reconnect. */
  readonly retryMs: number;
  readonly maxStreams: number;
  readonly maxStreamsPerOwner: number;
  readonly maxStreamMs: number;
  /** Unsent bytes of all clients, streams or not, above which the slowest are cut. */
  readonly maxUnsentBytes: number;
};

/** Counters since the process began, and what is open now. */
export type StreamStatistics = {
  readonly open: Readonly<Record<Transport, number>>;
  readonly openByOwner: Readonly<Record<string, number>>;
  readonly opened: number;
  readonly refused: number;
  readonly cut: Readonly<Record<CutReason, number>>;
  /** Events of jobs and batches that clients were sent, on streams and as answers to long polls. */
  readonly delivered: number;
  /** Those of them that were read back for streams that began or came back. */
  readonly replayed: number;
};

/** How long the token is good that opened a stream. */
export type TokenLife = {
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  readonly isRevoked?: (() => boolean) | undefined;
};

/** One of the streams and long polls that are open. */
export type Admission = {
  readonly transport: Transport;
  /** Puts an SSE stream under the heartbeat and ends it by its deadline. */
  readonly attend: (stream: EventStream, token: TokenLife) => void;
  /** What else is to be undone when it is released. */
  readonly onRelease: (undo: () => void) => void;
  /** Gives its place back. May be called twice: by the end of the stream and by an error. */
  readonly release: () => void;
};

/** How often the one timer looks: a heartbeat goes to a part of the streams each time. */
const TICK_MS = 250;

type Attended = {
  readonly stream: EventStream;
  /** By the wall clock, which is what tokens go by. */
  readonly token: TokenLife;
  /** These two by a clock that nobody sets. */
  readonly closesAt: number;
  nextPingAt: number;
};

/** What all streams that begin may park together. Unit: bytes. */
const PARKING_BYTES = 16 * 1_024 * 1_024;

/** Every open stream of this process: admission, heartbeats, lifetimes and the drain. */
export class StreamRegistry {
  readonly #options: RegistryOptions;
  readonly #owners = new Tally();
  /** What is limited: those of an owner, or of one token of many that he gave away. */
  readonly #shares = new Tally();
  readonly #open: Record<Transport, number> = { sse: 0, "long-poll": 0 };
  readonly #cut: Record<CutReason, number> = { slow: 0, stalled: 0, memory: 0 };
  readonly #attended = new Set<Attended>();
  /** How often all streams were ended. */
  #generation = 0;
  #opened = 0;
  #refused = 0;
  #delivered = 0;
  #replayed = 0;
  #timer: NodeJS.Timeout | undefined;
  readonly #draining = new AbortController();
  /** By `performance.now()`. */
  #drainsUntil = 0;
  /** What clients have not taken yet, those of answers that are no streams too. */
  readonly unsent: Unsent;
  readonly parking = new Allowance(PARKING_BYTES);

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.unsent = new Unsent(options.maxUnsentBytes);
  }

  /** Aborted when the process begins to drain: whoever waits for news should answer now. */
  get draining(): AbortSignal {
    return this.#draining.signal;
  }

  /**
   * Lets one more stream in.
   * @param share whose part it takes. Default: the owner's
   * @throws JobcastError `draining`, or `too_many_streams`: the new one is refused, since an open
   *   one that is put out comes back at once and puts out another
   */
  admit(ownerId: string, transport: Transport, share = ownerId): Admission {
    const owned = this.#shares.of(share);
    const { maxStreams, maxStreamsPerOwner } = this.#options;
    if (this.#draining.signal.aborted) {
      throw new JobcastError("draining", "This process is shutting down; connect again.");
    }
    if (owned >= maxStreamsPerOwner || this.#open.sse + this.#open["long-poll"] >= maxStreams) {
      this.#refused += 1;
      const limit =
        owned >= maxStreamsPerOwner ? `${maxStreamsPerOwner} for each owner` : maxStreams;
      throw new JobcastError(
        "too_many_streams",
        `The limit of open streams is ${limit}; close one first.`,
      );
    }
    this.#owners.add(ownerId, 1);
    this.#shares.add(share, 1);
    this.#open[transport] += 1;
    this.#opened += 1;

    const generation = this.#generation;
    let attended: Attended | undefined;
    const undos: (() => void)[] = [];
    let isTaken = true;
    return {
      transport,
      onRelease: (undo) => {
        if (isTaken) undos.push(undo);
        else undo();
      },
      release: () => {
        if (!isTaken) return;
        isTaken = false;
        for (const undo of undos) undo();
        this.#open[transport] -= 1;
        this.#owners.add(ownerId, -1);
        this.#shares.add(share, -1);
        if (attended) this.#attended.delete(attended);
      },
      attend: (stream, token) => {
        const now = performance.now();
        attended = {
          stream,
          token,
          // At most the limit, and not all that came together at once.
          closesAt: now + this.#options.maxStreamMs * (0.75 + Math.random() / 4),
          nextPingAt: now + this.#options.heartbeatMs,
        };
        if (isTaken) this.#attended.add(attended);
        // It was still beginning when the others were ended, and was in no list.
        if (this.#draining.signal.aborted) stream.close("draining", this.retryMs());
        if (generation !== this.#generation) stream.close("database_changed", this.retryMs());
      },
    };
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  countCut(reason: CutReason): void {
    this.#cut[reason] += 1;
  }

  countEvents(kind: EventKind, count: number): void {
    this.#delivered += count;
    if (kind === "replayed") this.#replayed += count;
  }

  /** A heartbeat of now. */
  heartbeat(): Frame {
    return pingFrame(new Date());
  }

  /** Milliseconds before a client comes back: never the same for two, so that they don't come in step. */
  retryMs(): number {
    return jittered(this.#options.retryMs);
  }

  /** The same for one who was not let in: while this process drains it lets nobody in. */
  retryLaterMs(): number {
    const left = Math.max(0, this.#drainsUntil - performance.now());
    return left + this.retryMs();
  }

  statistics(): StreamStatistics {
    return {
      open: { ...this.#open },
      openByOwner: this.#owners.all(),
      opened: this.#opened,
      refused: this.#refused,
      cut: { ...this.#cut },
      delivered: this.#delivered,
      replayed: this.#replayed,
    };
  }

  /** Ends all streams at once: what they have sent does not hold any more. */
  closeAll(reason: "database_changed"): void {
    this.#generation += 1;
    for (const { stream } of [...this.#attended]) stream.close(reason, this.retryMs());
  }

  /**
   * No new streams, and the open ones closed evenly over `ms`: all at once would come back to the
   * other processes all at once.
   */
  async drain(ms: number): Promise<void> {
    this.#draining.abort();
    const streams = [...this.#attended];
    const end = performance.now() + ms;
    this.#drainsUntil = end;
    for (const [index, { stream }] of streams.entries()) {
      const due = end - (ms * (streams.length - index)) / streams.length;
      const wait = due - performance.now();
      if (wait > 5) await delay(wait);
      stream.close("draining", this.retryMs());
    }
  }

  /** One timer for all: heartbeats fall where their streams began, so they are spread by themselves. */
  #tick(): void {
    const [now, clock] = [performance.now(), Date.now()];
    const ping = pingFrame(new Date(clock));
    this.unsent.sweep();
    for (const attended of this.#attended) {
      const { stream, token } = attended;
      if (stream.isOpen && (clock >= token.expiresAt || token.isRevoked?.())) {
        stream.close("token_expired", this.retryMs());
      } else if (now >= attended.closesAt) {
        // Whoever has not taken the end by then never will.
        if (stream.isOpen) stream.close("max_age", this.retryMs());
        else if (now >= attended.closesAt + this.#options.heartbeatMs * 2) stream.abandon();
      } else if (now >= attended.nextPingAt) {
        attended.nextPingAt = now + this.#options.heartbeatMs;
        stream.ping(ping);
      }
    }
  }
}

/** Between 75 and 125 percent. */
function jittered(ms: number): number {
  return ms * (0.75 + Math.random() / 2);
}
