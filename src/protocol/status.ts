import { z } from "zod";

/** Every status of a job, in the order of their ranks; the last four are final. */
export const STATUSES = [
  "pending",
  "queued",
  "processing",
  "completed",
  "failed",
  "cancelled",
  "timeout",
] as const;

export type Status = (typeof STATUSES)[number];

export const statusSchema = z.enum(STATUSES);

const RANKS: Readonly<Record<Status, number>> = {
  pending: 0,
  queued: 1,
  processing: 2,
  completed: 3,
  failed: 3,
  cancelled: 3,
  timeout: 3,
};

/** Whether nothing follows this status but a retry. */
export function isFinal(status: Status): boolean {
  return RANKS[status] === 3;
}

/** Whether an update may take a job from one status to the other; a retry is its own operation. */
export function mayBecome(from: Status, to: Status): boolean {
  return from === to || (!isFinal(from) && RANKS[to] >= RANKS[from]);
}
