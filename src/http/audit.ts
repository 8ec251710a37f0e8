import type { Request, Response } from "express";
import type { EventLog } from "../calm-log.ts";
import { callerIfKnown } from "./auth/caller.ts";

/** What an auditor asks for: money that was moved by hand, what was done to others, who was refused. */
export type AuditAction =
  | "credits.granted"
  | "credits.adjusted"
  | "credits.overdraft"
  | "job.cancelled"
  | "job.deleted"
  | "batch.cancelled"
  | "batch.deleted"
  | "access.refused";

/** A line of the log with `audit`, who did it, and the id of the request. */
export function audit(
  { req, res, log }: { req: Request; res: Response; log?: EventLog },
  action: AuditAction,
  details: object,
): void {
  const by = callerIfKnown(res)?.ownerId ?? null;
  (req.log ?? log)?.info({ audit: action, by, ...details }, "audit");
}
