import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Connection } from "better-sse";
import { unchunk } from "./frames.ts";

/**
 * Sent with every event stream. `no-transform` keeps compressing middleware and proxies away. The
 * connection ends with the stream: who reads the socket itself would wait for an end that a
 * connection kept alive does not show.
 */
export const EVENT_STREAM_HEADERS = {
  "Content-Type": "text/event-stream",
  "Cache-Control": "no-store, no-transform",
  "X-Accel-Buffering": "no",
  Connection: "close",
} as const;

/** better-sse looks only for query parameters here, and ours are read elsewhere. */
const NO_PARAMETERS = new URL("http://localhost/");
const NO_HEADERS = new Headers();
const RESPONSE = new Response(null, { status: 200 });

/**
 * The outer world of a better-sse session: a Node response whose backpressure is watched.
 *
 * better-sse's own connection ignores the socket's buffer, hears nothing of a socket that closed
 * before the session began, and builds a URL, a Request, a Response and two Headers each time.
 */
export class ResponseConnection extends Connection {
  override readonly url = NO_PARAMETERS;
  override readonly response = RESPONSE;
  override readonly request: Request;
  readonly #res: ServerResponse;
  readonly #bufferBytes: number;
  readonly #onOverflow: () => void;
  #onAbort: (() => void) | undefined;
  #handed = 0;

  constructor(res: ServerResponse, bufferBytes: number, onOverflow: () => void) {
    super();
    this.#res = res;
    this.#bufferBytes = bufferBytes;
    this.#onOverflow = onOverflow;
    // All that a session asks of its request, without the cost of a real one.
    const signal = {
      addEventListener: (_: "abort", listener: () => void) => {
        this.#onAbort = listener;
      },
      removeEventListener: () => {
        this.#onAbort = undefined;
      },
    };
    this.request = { headers: NO_HEADERS, signal } as unknown as Request;
    // Only the response tells that the client went: a request also closes when its body was read.
    res.once("close", this.#onClose);
  }

  readonly #onClose = (): void => this.#onAbort?.();

  /** Bytes that were handed to the socket since the stream began. */
  get handed(): number {
    return this.#handed;
  }

  /** Bytes that the kernel has not taken yet. */
  get unsent(): number {
    return this.#res.socket?.writableLength ?? 0;
  }

  /**
   * Bytes that the kernel has taken since the connection began. Node counts a write when it is
   * done, and a large one may take minutes on a thin line, so this asks the handle, as Node's own
   * timeout of sockets does.
   */
  get bytesTaken(): number {
    const { socket } = this.#res;
    if (!socket) return 0;
    const handle = (socket as Socket & { _handle?: Partial<WriteCounters> | null })._handle;
    const { bytesWritten, writeQueueSize } = handle ?? {};
    if (bytesWritten !== undefined && writeQueueSize !== undefined) {
      return bytesWritten - writeQueueSize;
    }
    return socket.bytesWritten - socket.writableLength;
  }

  override sendHead(): void {
    if (this.#res.destroyed) return;
    this.#res.writeHead(200, EVENT_STREAM_HEADERS);
    this.#res.flushHeaders();
  }

  /** A session flushes its empty buffer when it begins; everything else goes through `send`. */
  override sendChunk(text: string): void {
    if (text !== "") this.#res.write(text);
  }

  override cleanup(): void {
    this.#res.removeListener("close", this.#onClose);
  }

  /**
   * Writes chunks together. A client that has left too much unread is cut instead; what is written
   * now is not counted, so that an event larger than the budget reaches whoever keeps up.
   */
  send(chunks: readonly Buffer[]): void {
    if (this.#res.destroyed || this.#res.writableEnded) return;
    if (this.unsent > this.#bufferBytes) {
      this.#onOverflow();
      return;
    }
    for (const chunk of chunks) this.#handed += chunk.length;
    const { socket } = this.#res;
    if (socket && this.#res.chunkedEncoding) writeTogether(socket, chunks);
    else for (const chunk of chunks) this.#res.write(unchunk(chunk));
  }

  /** After the last chunk: the end of the response, and then of the connection. */
  end(): void {
    if (!this.#res.destroyed) this.#res.end();
  }

  /** At once, with whatever was not sent. */
  destroy(): void {
    this.#res.destroy();
  }
}

/** What libuv was given to write, and what of it the kernel has not taken. */
type WriteCounters = { readonly bytesWritten: number; readonly writeQueueSize: number };

/** One system call for many chunks. */
function writeTogether(socket: Socket, chunks: readonly Buffer[]): void {
  if (chunks.length > 1) socket.cork();
  for (const chunk of chunks) socket.write(chunk);
  if (chunks.length > 1) socket.uncork();
}
