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

  /** Whatever comes behind those that wait stays with the kernel. */
  function holdBack(socket: Socket): void {
    const pause = () => {
      // [Node] It resumes a socket at the end of every request, to read the next one.
      if (waiting.get(socket)) socket.pause();
      else socket.off("resume", pause);
    };
    socket.on("resume", pause);
    socket.pause();
  }

  return (req, res, next) => {
    const { socket } = req;
    if (res.socket) return next();
    const count = (waiting.get(socket) ?? 0) + 1;
    waiting.set(socket, count);
    if (count > MAX_WAITING) {
      socket.destroy();
      return;
    }
    if (count === 1) holdBack(socket);
    res.once("socket", () => {
      const left = (waiting.get(socket) ?? 1) - 1;
      waiting.set(socket, left);
      // The last one may still have a body to come.
      if (left === 0) socket.resume();
      next();
    });
  };
}
