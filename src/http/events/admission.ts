import type { Request, Response } from "express";
import type { Admission } from "../../stream/registry.ts";
import { ClientGoneError } from "../../stream/retry.ts";
import type { Call } from "../operation.ts";
import type { HttpParts } from "../parts.ts";
import { transportOf } from "./events-request.ts";
import type { EventsDeps } from "./stream-edge.ts";

type EventsHandler = (
  req: Request,
  res: Response,
  deps: EventsDeps,
  admission: Admission,
) => Promise<void>;

/** Takes a place for the request, and gives it back however the request ends. */
export async function withAdmission(
  handler: EventsHandler,
  { events }: HttpParts,
  { req, res, caller: { ownerId, viewer } }: Call,
): Promise<undefined> {
  res.vary("Accept");
  const transport = transportOf(req);
  const admission = events.registry.admit(ownerId, transport, viewer);
  try {
    await handler(req, res, events, admission);
    if (transport === "long-poll") admission.release();
  } catch (error) {
    admission.release();
    if (!(error instanceof ClientGoneError)) throw error;
  }
}
