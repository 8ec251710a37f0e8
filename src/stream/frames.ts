import { type EventText, type News, withOwner } from "../change/change.ts";
import type { CloseReason } from "../protocol/control-event.ts";

/**
 * One SSE event as the bytes of HTTP/1.1 chunks (RFC 9112, 7.1), so that the same buffers are
 * written to every subscriber's socket: Node would frame each write of each response again.
 */
export type Frame = {
  readonly chunks: readonly Buffer[];
  /** What the bytes set the client's Last-Event-ID to; undefined when there is no id in them. */
  readonly id: string | undefined;
};

function toChunk(text: string): Buffer {
  const size = Buffer.byteLength(text).toString(16);
  return Buffer.from(`${size}\r\n${text}\r\n`);
}

/** The bytes without their chunk framing, for connections that are not chunked (HTTP/1.0). */
export function unchunk(chunk: Buffer): Buffer {
  return chunk.subarray(chunk.indexOf("\r\n") + 2, -2);
}

/** Line ends of Unicode: no end of a line in SSE, but some clients split there (Python's do). */
const FOREIGN_LINE_ENDS = /[\u0085\u2028\u2029]/g;

function escapeChar(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/**
 * An event as text.
 * @param data JSON on one line: JSON.stringify and PostgreSQL escape CR and LF, the only bytes that could end it
 */
export function eventText(type: string, data: string, id?: string): string {
  const line = data.replace(FOREIGN_LINE_ENDS, escapeChar);
  return `event: ${type}\n${id === undefined ? "" : `id: ${id}\n`}data: ${line}\n\n`;
}

/** Without an id it is sent with the one before it: some clients forget an id that is not repeated. */
export function eventFrame(type: string, data: string, id?: string): Frame {
  return { chunks: [toChunk(eventText(type, data, id))], id };
}

/**
 * How long the client waits before it reconnects; digits only, as the standard asks. It goes before
 * an event, into its block: a block of its own is an empty event to many clients.
 */
export function retryText(ms: number): string {
  return `retry: ${Math.round(ms)}\n`;
}

/** The data of the event that says why the stream ends, and when to come back. */
export function closeData(reason: CloseReason, retryMs: number): string {
  return JSON.stringify({ reason, retryMs: Math.round(retryMs) });
}

/** The heartbeat. */
export function pingFrame(at: Date): Frame {
  return eventFrame("ping", JSON.stringify({ at: at.toISOString() }));
}

/** What is to be put into frames before they are written to one client. */
export type Completion = {
  /** Goes before the first of them. */
  readonly retryMs: number | undefined;
  /** The id that the client has before these. */
  readonly lastId: string | undefined;
  /** The id that the last of them brings, having none of its own. */
  readonly endId: string | undefined;
};

/** The frames as one client gets them: each with an id, its own or the one before it again. */
export function complete(frames: readonly Frame[], completion: Completion): readonly Frame[] {
  const { retryMs, lastId, endId } = completion;
  if (retryMs === undefined && frames.every(({ id }) => id !== undefined)) return frames;
  let known = lastId;
  let idChunk: Buffer | undefined;
  return frames.map((frame, index) => {
    const id = frame.id ?? (index === frames.length - 1 ? (endId ?? known) : known);
    const chunks = [...frame.chunks];
    if (frame.id === undefined && id !== undefined) {
      if (id !== known || !idChunk) idChunk = toChunk(`id: ${id}\n`);
      chunks.unshift(idChunk);
    }
    if (index === 0 && retryMs !== undefined) chunks.unshift(toChunk(retryText(retryMs)));
    known = id;
    return { chunks, id };
  });
}

/** The bytes of frames, in order. */
export function chunksOf(frames: readonly Frame[]): readonly Buffer[] {
  const [first] = frames;
  // Most are sent alone.
  return first && frames.length === 1 ? first.chunks : frames.flatMap(({ chunks }) => chunks);
}

const replayedFrames = new WeakMap<EventText, Frame>();

/** The frame of an event that was read back: those who shared the read share the bytes, too. */
export function replayedFrame(event: EventText): Frame {
  const known = replayedFrames.get(event);
  const frame = known ?? eventFrame(event.kind, event.json, event.id);
  if (!known) replayedFrames.set(event, frame);
  return frame;
}

/** What a frame has beside the event's JSON, and the objects around it. */
const OVERHEAD_BYTES = 256;

/** A change on its way out: encoded when the first subscriber needs it, and only once. */
export class OutgoingChange {
  readonly change: News;
  #jobFrame: Frame | undefined;
  #sharedFrame: Frame | undefined;
  #ownedFrame: Frame | undefined;

  constructor(change: News) {
    this.change = change;
  }

  /** What it holds in memory, about. */
  get bytes(): number {
    return (this.change.json ?? "").length + OVERHEAD_BYTES;
  }

  /** For a stream of one job. Undefined: who wants it reads it. */
  get jobFrame(): Frame | undefined {
    const { kind, id, json } = this.change;
    if (json === undefined) return undefined;
    this.#jobFrame ??= eventFrame(kind, json, id);
    return this.#jobFrame;
  }

  /** For streams over many jobs, whose id is the reader's own cursor: none here. */
  get sharedFrame(): Frame | undefined {
    const { kind, json } = this.change;
    if (json === undefined) return undefined;
    this.#sharedFrame ??= eventFrame(kind, json);
    return this.#sharedFrame;
  }

  /** The same with the job's owner. */
  get ownedFrame(): Frame | undefined {
    const { kind, json, ownerId } = this.change;
    if (json === undefined) return undefined;
    this.#ownedFrame ??= eventFrame(kind, withOwner({ json, ownerId }));
    return this.#ownedFrame;
  }
}
