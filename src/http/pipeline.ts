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

  function count(socket: Socket, change: 1 | -1, bytes: number): Load {
    const own = waiting.get(socket) ?? { requests: 0, bytes: 0 };
    waiting.set(socket, own);
    for (const load of [own, all]) {
      load.requests += change;
      load.bytes += change * bytes;
    }
    return own;
  }

  return (req, res, next) => {
    const { socket } = req;
    if (res.socket) return next();
    const bytes = bytesOf(req);
    const own = count(socket, 1, bytes);
    const isTooMany = exceeds(own, MAX_WAITING) || exceeds(all, MAX_WAITING_IN_ALL);
    let isWaiting = true;
    const stopWaiting = () => {
      if (isWaiting) count(socket, -1, bytes);
      isWaiting = false;
    };
    socket.once("close", stopWaiting);
    res.once("socket", () => {
      socket.off("close", stopWaiting);
      stopWaiting();
      next();
    });
    if (isTooMany) socket.destroy();
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
