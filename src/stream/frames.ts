import type { EventText, News } from "../protocol/event.ts";

/**
 * One SSE event as the bytes of one HTTP/1.1 chunk (RFC 9112, 7.1), so that the same buffer is
 * written to every subscriber's socket: Node would frame each write of each response again.
 */
export type Frame = Buffer;

function toChunk(text: string): Frame {
  const size = Buffer.byteLength(text).toString(16);
  return Buffer.from(`${size}\r\n${text}\r\n`);
}

/** The bytes without their chunk framing, for connections that are not chunked (HTTP/1.0). */
export function unchunk(frame: Frame): Buffer {
  return frame.subarray(frame.indexOf("\r\n") + 2, -2);
}

/**
 * An event without an id does not move the client's Last-Event-ID.
 * @param data JSON on one line: JSON.stringify and PostgreSQL escape CR and LF, the only bytes that could end it
 */
export function eventFrame(type: string, data: string, id?: string): Frame {
  return toChunk(`event: ${type}\n${id === undefined ? "" : `id: ${id}\n`}data: ${data}\n\n`);
}

/** How long the client waits before it reconnects; digits only, as the standard asks. */
export function retryFrame(ms: number): Frame {
  return toChunk(`retry: ${Math.round(ms)}\n\n`);
}

/** An id for the event whose frame follows, in the same `send`: nothing may come between the two. */
export function idFrame(id: string): Frame {
  return toChunk(`id: ${id}\n`);
}

const replayedFrames = new WeakMap<EventText, Frame>();

/** The frame of an event that was read back: those who shared the read share the bytes, too. */
export function replayedFrame(event: EventText): Frame {
  const known = replayedFrames.get(event);
  const frame = known ?? eventFrame("status", event.json, String(event.version));
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

  constructor(change: News) {
    this.change = change;
  }

  /** What it holds in memory, about. */
  get bytes(): number {
    return (this.change.json ?? "").length + OVERHEAD_BYTES;
  }

  /** For a stream of one job: the id is the version. Undefined: who wants it reads it. */
  get jobFrame(): Frame | undefined {
    const { version, json } = this.change;
    if (json === undefined) return undefined;
    this.#jobFrame ??= eventFrame("status", json, String(version));
    return this.#jobFrame;
  }

  /** For streams over many jobs, whose id is the reader's own cursor: none here. */
  get sharedFrame(): Frame | undefined {
    const { json } = this.change;
    if (json === undefined) return undefined;
    this.#sharedFrame ??= eventFrame("status", json);
    return this.#sharedFrame;
  }
}
