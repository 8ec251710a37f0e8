import type { Resource } from "../operation.ts";
import { batches } from "./batches.ts";
import { callbacks } from "./callbacks.ts";
import { credits } from "./credits.ts";
import { events } from "./events.ts";
import { jobUpdates } from "./job-updates.ts";
import { jobs } from "./jobs.ts";
import { service } from "./service.ts";
import { streamTokens } from "./stream-tokens.ts";

/** Everything that is served, in the order of the reference. */
export const RESOURCES: readonly Resource[] = [
  jobs,
  jobUpdates,
  events,
  batches,
  credits,
  callbacks,
  streamTokens,
  service,
];
