import { z } from "zod";
import {
  addedJobsSchema,
  addJobsSchema,
  batchListSchema,
  batchResourceSchema,
  batchSchema,
  createBatchSchema,
  createdBatchSchema,
  deletedBatchSchema,
} from "../../protocol/batch.ts";
import { callbackResultSchema, callbackSchema } from "../../protocol/callback.ts";
import { closeSchema, pingSchema, readySchema, resetSchema } from "../../protocol/control-event.ts";
import {
  adjustmentSchema,
  creditAccountSchema,
  creditEntryListSchema,
  creditEntrySchema,
  grantSchema,
  overdraftSchema,
} from "../../protocol/credits.ts";
import {
  customEventSchema,
  deletedSchema,
  emitSchema,
  statusEventSchema,
} from "../../protocol/event.ts";
import { healthSchema, readinessSchema } from "../../protocol/health.ts";
import {
  createdJobSchema,
  createJobSchema,
  jobActionSchema,
  jobSchema,
  retryJobSchema,
  updateJobSchema,
  updateJobsSchema,
  updateResultsSchema,
} from "../../protocol/job.ts";
import { jobHistorySchema, jobListSchema } from "../../protocol/job-list.ts";
import { batchPollSchema, statusPollSchema } from "../../protocol/poll-answer.ts";
import { problemSchema } from "../../protocol/problem.ts";
import { statisticsSchema } from "../../protocol/statistics.ts";
import { createStreamTokenSchema, streamTokenSchema } from "../../protocol/stream-token.ts";
import { viewersSchema } from "../../protocol/viewers.ts";

/**
 * What the shapes are called in the description, and by clients that are generated from it. In a
 * registry of our own: zod's is one for the whole process, and an application may have a Job too.
 */
export const NAMES = z.registry<{ id: string }>();

for (const [id, schema] of Object.entries({
  AddJobs: addJobsSchema,
  AddedJobs: addedJobsSchema,
  Adjustment: adjustmentSchema,
  Batch: batchResourceSchema,
  BatchEvent: batchSchema,
  BatchList: batchListSchema,
  BatchPoll: batchPollSchema,
  Callback: callbackSchema,
  CallbackResult: callbackResultSchema,
  Close: closeSchema,
  CreateBatch: createBatchSchema,
  CreateJob: createJobSchema,
  CreateStreamToken: createStreamTokenSchema,
  CreatedBatch: createdBatchSchema,
  CreatedJob: createdJobSchema,
  CreditAccount: creditAccountSchema,
  CreditEntry: creditEntrySchema,
  CreditEntryList: creditEntryListSchema,
  CustomEvent: customEventSchema,
  Deleted: deletedSchema,
  DeletedBatch: deletedBatchSchema,
  Emit: emitSchema,
  Grant: grantSchema,
  Health: healthSchema,
  Job: jobSchema,
  JobAction: jobActionSchema,
  JobHistory: jobHistorySchema,
  JobList: jobListSchema,
  Overdraft: overdraftSchema,
  Ping: pingSchema,
  Problem: problemSchema,
  Readiness: readinessSchema,
  RetryJob: retryJobSchema,
  Ready: readySchema,
  Reset: resetSchema,
  Statistics: statisticsSchema,
  StatusEvent: statusEventSchema,
  StatusPoll: statusPollSchema,
  StreamToken: streamTokenSchema,
  UpdateJob: updateJobSchema,
  UpdateJobs: updateJobsSchema,
  UpdateResults: updateResultsSchema,
  Viewers: viewersSchema,
})) {
  NAMES.add(schema, { id });
}
