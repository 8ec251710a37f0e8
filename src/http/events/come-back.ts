import type { ErrorRequestHandler, Request } from "express";
import { countOnly } from "../../calm-log.ts";
import { closeReasonSchema } from "../../protocol/control-event.ts";
import { EVENT_STREAM_HEADERS } from "../../stream/connection.ts";
import { closeData, eventText, retryText } from "../../stream/frames.ts";
import type { StreamRegistry } from "../../stream/registry.ts";
import { toJobcastError } from "../foreign-errors.ts";
import { lastIdOf } from "./events-request.ts";

/** Ids of ours, and nothing else that a client may have sent. */
const ID = /^[\w.-]{1,64}$/;

/**
 * Whoever asked for an event stream and is to ask again gets one, which says so and ends: on any
 * status but 200 an `EventSource` gives up for good (HTML, 9.2.1). All others get the problem.
 */
export function askToComeBack(
  registry: StreamRegistry,
  onRefused: (error: unknown) => void,
): ErrorRequestHandler {
  return (error, req, res, next) => {
    const reason = closeReasonSchema.safeParse(toJobcastError(error).code);
    if (!reason.success || res.headersSent || !isForEvents(req)) return next(error);
    onRefused(error);
    countOnly(res);
    const retryMs = registry.retryLaterMs();
    const lastId = lastIdOf(req);
    res.writeHead(200, EVENT_STREAM_HEADERS);
    res.end(
      retryText(retryMs) +
        eventText(
          "close",
          closeData(reason.data, retryMs),
          lastId !== undefined && ID.test(lastId) ? lastId : undefined,
        ),
    );
  };
}

function isForEvents(req: Request): boolean {
  const preferred = req.accepts(["text/event-stream", "application/json"]);
  return req.method === "GET" && preferred === "text/event-stream";
}
