import { randomUUID } from "node:crypto";
import type { RequestHandler } from "express";

const HEADER = "X-Request-Id";

/** What proxies and tracing libraries put there, and nothing that would make a line of a log two. */
const GIVEN = /^[\w.:/+=@-]{1,128}$/;

/**
 * Names the request in its answer and in every line that is logged of it: as the caller, a proxy or
 * the application around us named it already, else anew.
 */
export const nameRequest: RequestHandler = (req, res, next) => {
  const given = res.getHeader(HEADER) ?? req.get(HEADER);
  req.id = typeof given === "string" && GIVEN.test(given) ? given : randomUUID();
  res.setHeader(HEADER, req.id);
  next();
};
