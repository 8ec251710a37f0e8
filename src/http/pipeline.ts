import type { Socket } from "node:net";
import type { RequestHandler } from "express";

/** Requests of one connection that may wait for the answer to the first of them. */
const MAX_WAITING = 32;

/**
 * One request of a connection at a time, in their order. A client may send the next before it has
 * the last answer (RFC 9112, 9.3.2); Node would begin them all, and behind a stream, which may last
 * an hour, each would hold its memory and its place for as long. Whoever sends too many is cut.
 */
export function oneAtATime(): RequestHandler {
  const waiting = new WeakMap<Socket, number>();
  return (req, res, next) => {
    const { socket } = req;
    if (res.socket) return next();
    const count = (waiting.get(socket) ?? 0) + 1;
    waiting.set(socket, count);
    if (count > MAX_WAITING) {
      socket.destroy();
      return;
    }
    // Whatever comes behind it stays with the kernel until this one's turn.
    socket.pause();
    res.once("socket", () => {
      waiting.set(socket, (waiting.get(socket) ?? 1) - 1);
      socket.resume();
      next();
    });
  };
}
