import type { Request, Response } from "express";
import { ClientGoneError } from "../../stream/patience.ts";
import type { Call } from "../operation.ts";
import type { HttpParts } from "../parts.ts";
import { transportOf } from "./events-request.ts";
import { type EventsDeps, Visit } from "./stream-edge.ts";

type EventsHandler = (req: Request, res: Response, deps: EventsDeps, visit: Visit) => Promise<void>;

/** Takes a place for the request, and gives it back however the request ends. */
export async function visit(
  handler: EventsHandler,
  { events }: HttpParts,
  { req, res, caller: { ownerId, viewer } }: Call,
): Promise<undefined> {
  res.vary("Accept");
  const transport = transportOf(req);
  const place = new Visit(transport, events.registry.admit(ownerId, transport, viewer));
  try {
    await handler(req, res, events, place);
    if (transport === "long-poll") place.leave();
  } catch (error) {
    place.leave();
    if (!(error instanceof ClientGoneError)) throw error;
  }
}
