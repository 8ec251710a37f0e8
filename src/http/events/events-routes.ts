import { type Request, type RequestHandler, type Response, Router } from "express";
import { ClientGoneError } from "../../stream/patience.ts";
import { callerOf } from "../auth/caller.ts";
import { batchEvents } from "./batch-events.ts";
import { transportOf } from "./events-request.ts";
import { jobEvents } from "./job-events.ts";
import { scopeEvents } from "./scope-events.ts";
import { type EventsDeps, Visit } from "./stream-edge.ts";

type EventsHandler = (req: Request, res: Response, deps: EventsDeps, visit: Visit) => Promise<void>;

/** The streams: one job, many, or a batch; SSE or long polling, as the client accepts. */
export function createEventsRouter(deps: EventsDeps): Router {
  const router = Router();
  router.get("/v1/jobs/:id/events", visiting(jobEvents, deps));
  router.get("/v1/batches/:id/events", visiting(batchEvents, deps));
  router.get("/v1/events", visiting(scopeEvents, deps));
  return router;
}

/** Takes a place for the request, and gives it back however the request ends. */
function visiting(handler: EventsHandler, deps: EventsDeps): RequestHandler {
  return async (req, res) => {
    res.set("Cache-Control", "no-store");
    res.vary("Accept").vary("Authorization");
    const transport = transportOf(req);
    const { ownerId, viewer } = callerOf(res);
    const visit = new Visit(transport, deps.registry.admit(ownerId, transport, viewer));
    try {
      await handler(req, res, deps, visit);
      if (transport === "long-poll") visit.leave();
    } catch (error) {
      visit.leave();
      if (!(error instanceof ClientGoneError)) throw error;
    }
  };
}
