import type { RequestHandler, Response } from "express";
import type { Holder, Unsent } from "../stream/unsent.ts";

const LIMIT_MS = 30_000;

/** A thin line: 128 kbit/s. */
const BYTES_PER_MS = 16;

/** How long a client may take over an answer of that size. */
const limitFor = (bytes: number) => LIMIT_MS + bytes / BYTES_PER_MS;

/** Sends JSON that is text already. */
export function sendJson(res: Response, json: string): void {
  res.type("json").send(json);
}

/**
 * Watches answers that their clients do not take: they count among the bytes that wait for clients,
 * and are cut when their time is over. Streams are watched by themselves.
 * @param limitMs by what is left of the answer. Default: 30 s, and what it takes at 128 kbit/s
 */
export function boundAnswers(unsent: Unsent, limitMs = limitFor): RequestHandler {
  return (_req, res, next) => {
    // [Node] The end was said and nothing follows, while some of it may still be here.
    res.once("prefinish", () => {
      const length = res.socket?.writableLength ?? 0;
      if (length > 0 && !isStream(res)) watch(res, length, unsent, limitMs(length));
    });
    next();
  };
}

function isStream(res: Response): boolean {
  return String(res.getHeader("content-type")).startsWith("text/event-stream");
}

function watch(res: Response, length: number, unsent: Unsent, limitMs: number): void {
  const holder: Holder = {
    handed: length,
    get unsent() {
      return res.socket?.writableLength ?? 0;
    },
    cut: () => res.destroy(),
  };
  const timer = setTimeout(() => res.destroy(), limitMs);
  res.once("close", () => {
    clearTimeout(timer);
    unsent.release(holder);
  });
  unsent.hold(holder, [{ length }], 0);
}
