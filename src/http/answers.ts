import type { RequestHandler, Response } from "express";
import type { Holder, Unsent } from "../stream/unsent.ts";

/** How long a client may take over an answer: this, and what its size takes on a thin line. */
const PATIENCE_MS = 30_000;
const BYTES_PER_MS = 16;

/** Sends JSON that is text already. */
export function sendJson(res: Response, json: string): void {
  res.type("json").send(json);
}

/**
 * Watches answers that their clients do not take: they count among the bytes that wait for clients,
 * and are cut when their time is over. Streams are watched by themselves.
 */
export function boundAnswers(unsent: Unsent): RequestHandler {
  return (_req, res, next) => {
    // [Node] The end was said and nothing follows, while some of it may still be here.
    res.once("prefinish", () => {
      const length = res.socket?.writableLength ?? 0;
      if (length > 0 && !isStream(res)) watch(res, length, unsent);
    });
    next();
  };
}

function isStream(res: Response): boolean {
  return String(res.getHeader("content-type")).startsWith("text/event-stream");
}

function watch(res: Response, length: number, unsent: Unsent): void {
  const holder: Holder = {
    handed: length,
    get unsent() {
      return res.socket?.writableLength ?? 0;
    },
    cut: () => res.destroy(),
  };
  const timer = setTimeout(() => res.destroy(), PATIENCE_MS + length / BYTES_PER_MS);
  res.once("close", () => {
    clearTimeout(timer);
    unsent.release(holder);
  });
  unsent.hold(holder, [{ length }], 0);
}
