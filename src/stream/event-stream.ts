import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { Session } from "better-sse";
import type { CloseReason } from "../protocol/control-event.ts";
import { ResponseConnection } from "./connection.ts";
import { chunksOf, closeData, complete, eventFrame, type Frame } from "./frames.ts";
import type { Holder, Unsent } from "./unsent.ts";

/** Why the server cut a connection without a word. */
export type CutReason = "slow" | "stalled" | "memory";

export type EventKind = "live" | "replayed";

/** How much of a replay is written before the client must have taken it. */
const PACE_BYTES = 64 * 1024;

export type EventStreamOptions = {
  /** Unsent bytes above which the client is cut. */
  readonly bufferBytes: number;
  /** The unsent bytes of all clients. */
  readonly unsent: Unsent;
  /** Milliseconds for the first `retry:`; already jittered. */
  readonly retryMs: number;
  /** The id that the client came with and that holds. */
  readonly lastId: string | undefined;
  readonly onCut: (reason: CutReason) => void;
  /** Something of ours failed, and the stream with it. */
  readonly onError: (error: unknown) => void;
  /** Events of jobs or batches were sent: as they happened, or read back for one who joined late. */
  readonly onEvents: (kind: EventKind, count: number) => void;
  readonly onClosed: () => void;
};

/** What frames are: see `send`. */
export type Sending = {
  /** How many of them are events of jobs or batches, for the statistics; default 0. */
  readonly events?: number;
  /** Default `live`. */
  readonly kind?: EventKind;
  /** The id that the last of them brings, having none of its own; default: none. */
  readonly endId?: string | undefined;
};

/**
 * One SSE response. It is `open`, then `ending` until the client has taken what is left, then
 * `closed`; a client that is gone skips the middle. Once it is not open, what is sent is dropped.
 *
 * Every event that follows an id has one: its own, or the last one again.
 */
export class EventStream implements Holder {
  readonly #connection: ResponseConnection;
  readonly #res: ServerResponse;
  readonly #options: EventStreamOptions;
  #state: "open" | "ending" | "closed" = "open";
  #takenAtPing = -1;
  /** Goes with the next event as `retry:`. */
  #retryMs: number | undefined;
  /** The last id that was written. */
  #lastId: string | undefined;

  /**
   * Sends the head. `retry:` goes with the first event.
   * @returns undefined when the client has already gone
   */
  static async open(
    res: ServerResponse,
    options: EventStreamOptions,
  ): Promise<EventStream | undefined> {
    const stream = new EventStream(res, options);
    if (!stream.isOpen) return undefined;
    const session = new Session(stream.#connection, {
      retry: null,
      keepAlive: null,
      trustClientEventId: false,
    });
    session.once("disconnected", () => stream.#closed());
    await once(session, "connected");
    // The client may have gone while the session began; the session would not notice.
    if (!stream.isOpen || res.destroyed) return undefined;
    return stream;
  }

  private constructor(res: ServerResponse, options: EventStreamOptions) {
    this.#res = res;
    this.#options = options;
    this.#retryMs = options.retryMs;
    this.#lastId = options.lastId;
    this.#connection = new ResponseConnection(res, options.bufferBytes, () => this.#cut("slow"));
    if (res.destroyed || res.closed) this.#closed();
  }

  get isOpen(): boolean {
    return this.#state === "open";
  }

  get handed(): number {
    return this.#connection.handed;
  }

  get unsent(): number {
    return this.#connection.unsent;
  }

  /** All clients together leave too much unread, and this one the most. */
  cut(): void {
    this.#cut("memory");
  }

  /** Writes events together. */
  send(frames: readonly Frame[], { events = 0, kind = "live", endId }: Sending = {}): void {
    if (!this.isOpen || frames.length === 0) return;
    const from = this.handed;
    const all = this.#complete(frames, endId);
    this.#write(all);
    // Sending may have cut the client, and then it got none of them.
    if (!this.isOpen) return;
    if (this.unsent > 0) this.#options.unsent.hold(this, chunksOf(all), from);
    if (events > 0) this.#options.onEvents(kind, events);
  }

  /** A sign of life for a client that nothing was said to yet. */
  greet(ping: Frame): void {
    if (this.#retryMs !== undefined) this.send([ping]);
  }

  /**
   * A heartbeat. A client that took nothing at all since the last one is gone or as good as gone;
   * one that is still busy with what it was sent needs no sign of life on top of it.
   */
  ping(frame: Frame): void {
    if (this.#state === "closed") return;
    const taken = this.#connection.bytesTaken;
    const isBehind = this.unsent > 0;
    if (isBehind && taken === this.#takenAtPing) {
      this.#cut("stalled");
      return;
    }
    this.#takenAtPing = taken;
    if (!isBehind) this.send([frame]);
  }

  /** The regular end: nothing more will come. The client counts as here until it has everything. */
  end(): void {
    if (!this.isOpen) return;
    this.#state = "ending";
    this.#connection.end();
  }

  /** It had all the time that a stream has, and has not taken the end. */
  abandon(): void {
    this.#cut("stalled");
  }

  /** Work for this stream alone, which ends when the work fails. */
  async run(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Something of ours failed: its client comes back, and gets what it missed. */
  fail(error: unknown): void {
    this.#options.onError(error);
    this.#connection.destroy();
    this.#closed();
  }

  /** Says why, and with what delay to come back, and ends. */
  close(reason: CloseReason, retryMs: number): void {
    this.#retryMs = retryMs;
    this.send([eventFrame("close", closeData(reason, retryMs))]);
    this.end();
  }

  /**
   * Sends many frames at the pace of the client: a long history is no reason to be cut.
   * @param events how many of the frames are events; counted when the client has been sent them all
   */
  async sendPaced(frames: readonly Frame[], events: number): Promise<void> {
    if (!this.isOpen || frames.length === 0) return;
    let slice: Frame[] = [];
    let bytes = 0;
    const all = this.#complete(frames);
    // All of them lie in memory until the last of them is taken.
    this.#options.unsent.hold(this, chunksOf(all), this.handed);
    for (const frame of all) {
      slice.push(frame);
      for (const { length } of frame.chunks) bytes += length;
      if (bytes < PACE_BYTES) continue;
      this.#write(slice);
      await this.#drained();
      slice = [];
      bytes = 0;
    }
    this.#write(slice);
    if (this.isOpen && events > 0) this.#options.onEvents("replayed", events);
  }

  /** As this client gets them: they are what is written next. */
  #complete(frames: readonly Frame[], endId?: string): readonly Frame[] {
    const retryMs = this.#retryMs;
    this.#retryMs = undefined;
    return complete(frames, { retryMs, lastId: this.#lastId, endId });
  }

  #write(frames: readonly Frame[]): void {
    if (!this.isOpen || frames.length === 0) return;
    this.#connection.send(chunksOf(frames));
    this.#lastId = frames.findLast(({ id }) => id !== undefined)?.id ?? this.#lastId;
  }

  /** Resolves when the client has taken what was sent, or has gone. */
  async #drained(): Promise<void> {
    const { socket } = this.#res;
    if (!this.isOpen || !socket?.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        socket.off("drain", done);
        this.#res.off("close", done);
        resolve();
      };
      socket.once("drain", done);
      this.#res.once("close", done);
    });
  }

  #cut(reason: CutReason): void {
    if (this.#state === "closed") return;
    this.#options.onCut(reason);
    this.#connection.destroy();
    this.#closed();
  }

  #closed(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#options.unsent.release(this);
    this.#options.onClosed();
  }
}
