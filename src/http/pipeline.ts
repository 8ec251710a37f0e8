import type { Socket } from "node:net";
import type { RequestHandler } from "express";

/** Requests that may wait for the answer to the first of their connection; and those of all. */
const MAX_WAITING = 256;
const MAX_WAITING_IN_ALL = 8_192;

/**
 * One request of a connection at a time, in their order. A client may send the next before it has
 * the last answer (RFC 9112, 9.3.2); Node would begin them all, and behind a stream, which may last
 * an hour, each would hold its place for as long. They are still read, or nobody would notice when
 * the client goes; whoever sends more than can be kept is cut.
 */
export function oneAtATime(): RequestHandler {
  const waiting = new WeakMap<Socket, number>();
  let all = 0;

  function count(socket: Socket, change: 1 | -1): number {
    const left = (waiting.get(socket) ?? 0) + change;
    waiting.set(socket, left);
    all += change;
    return left;
  }

  return (req, res, next) => {
    const { socket } = req;
    if (res.socket) return next();
    const isTooMany = count(socket, 1) > MAX_WAITING || all > MAX_WAITING_IN_ALL;
    let isWaiting = true;
    const stopWaiting = () => {
      if (isWaiting) count(socket, -1);
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
