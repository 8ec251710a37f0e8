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

/** What other systems call them. */
const OTHER_NAMES: ReadonlyMap<string, Status> = new Map([
  ["canceled", "cancelled"],
  ["timed_out", "timeout"],
  ["in_progress", "processing"],
]);

/** The status that is meant by a name, of ours or another system's. */
export function statusCalled(name: unknown): Status | undefined {
  return writtenStatusSchema.safeParse(name).data;
}

/** A status as somebody writes it. */
export const writtenStatusSchema = z
  .string()
  .transform((name) => OTHER_NAMES.get(name) ?? name)
  .pipe(statusSchema)
  .meta({ enum: STATUSES });

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
