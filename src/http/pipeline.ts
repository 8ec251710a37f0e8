import type { Socket } from "node:net";
import type { Request, RequestHandler } from "express";

/**
 * What may wait for the answer to the first request of its connection, and of all connections:
 * requests, and what their heads take in memory, about. Unit: bytes.
 */
const MAX_WAITING = { requests: 256, bytes: 1_024 * 1_024 };
const MAX_WAITING_IN_ALL = { requests: 8_192, bytes: 16 * 1_024 * 1_024 };

/** Of a request without its head, and of a header beside its characters. */
const REQUEST_BYTES = 2_048;
const HEADER_BYTES = 64;

type Load = { requests: number; bytes: number };

/**
 * One request of a connection at a time, in their order. A client may send the next before it has
 * the last answer (RFC 9112, 9.3.2); Node would begin them all, and behind a stream, which may last
 * an hour, each would hold its place for as long. They are still read, or nobody would notice when
 * the client goes; whoever sends more than can be kept is cut.
 */
export function oneAtATime(): RequestHandler {
  const waiting = new WeakMap<Socket, Load>();
  const all: Load = { requests: 0, bytes: 0 };

  /** What waits on a connection; with it goes what still does. One listener for all of them. */
  function loadOf(socket: Socket): Load {
    const known = waiting.get(socket);
    if (known) return known;
    const load = { requests: 0, bytes: 0 };
    waiting.set(socket, load);
    socket.once("close", () => count(load, -load.requests, -load.bytes));
    return load;
  }

  function count(own: Load, requests: number, bytes: number): void {
    for (const load of [own, all]) {
      load.requests += requests;
      load.bytes += bytes;
    }
  }

  return (req, res, next) => {
    const { socket } = req;
    if (res.socket) return next();
    const bytes = bytesOf(req);
    const own = loadOf(socket);
    count(own, 1, bytes);
    res.once("socket", () => {
      count(own, -1, -bytes);
      next();
    });
    if (exceeds(own, MAX_WAITING) || exceeds(all, MAX_WAITING_IN_ALL)) socket.destroy();
  };
}

function exceeds({ requests, bytes }: Load, most: Readonly<Load>): boolean {
  return requests > most.requests || bytes > most.bytes;
}

function bytesOf({ url, rawHeaders }: Request): number {
  return rawHeaders.reduce(
    (sum, text) => sum + text.length + HEADER_BYTES / 2,
    url.length + REQUEST_BYTES,
  );
}
