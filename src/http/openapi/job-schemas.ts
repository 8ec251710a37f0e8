import { statusEventSchema } from "../../protocol/event.ts";
import {
  createdJobSchema,
  createJobSchema,
  jobActionSchema,
  jobSchema,
  updateJobSchema,
} from "../../protocol/job.ts";
import { jobHistorySchema, jobListSchema } from "../../protocol/job-list.ts";
import { describe, describeAny } from "./schemas.ts";

const COUNTS = {
  "counts.total": "How many items there are.",
  "counts.completed": "How many of them are done.",
  "counts.failed": "How many of them failed.",
} as const;

const ERROR = {
  "error.code": "For programs.",
  "error.message": "For people.",
} as const;

const STATE = {
  status: "Where the job stands. The last four statuses are final.",
  progress: "Percent. It never goes back within an attempt.",
  stage: "What the worker is at, in its own word.",
  message: "What the worker says, for people.",
  counts: "Items of a job that has many.",
  result: "What came out, any JSON.",
  error: "Why the job failed.",
  ...COUNTS,
  ...ERROR,
} as const;

const STATUS_EVENT = {
  ...STATE,
  jobId: "The job.",
  version: "Counts the job's changes, without holes.",
  attempt: "Counts the retries, from 1 on.",
  batchId: "The batch that the job belongs to.",
  estimatedSecondsRemaining: "From `occurredAt`; null when it would be a guess.",
  source: "Who wrote it: `api`, `callback`, `sweeper`, `sql`, or what a producer called itself.",
  occurredAt: "When it was written.",
  omitted:
    "What is null here although the job has it: its row holds more than is told, or cannot be read.",
} as const;

const JOB = {
  ...STATUS_EVENT,
  omitted:
    "What is null here although the job has it: in lists values above 8 KiB (1 KiB among more than 100 jobs) and those that `omit` named, else above 4 MiB.",
  id: "The same as `jobId`.",
  ownerId: "Whose job it is.",
  type: "What kind of job it is, in the application's own word.",
  title: "What people call it.",
  params: "What the worker needs to know, any JSON.",
  metadata: "What the application wants to find here again.",
  credits: "What all attempts together have cost.",
  "credits.charged": "Taken from the owner's account.",
  "credits.refunded": "Given back for attempts that failed.",
  createdAt: "When it was created.",
  updatedAt: "When it was last changed.",
  startedAt: "When the attempt began to be processed.",
  finishedAt: "When it ended.",
  timeoutAt: "When the job times out, if it has not ended.",
  links: "Where to find it; absolute if the server knows its public URL.",
  "links.self": "The job.",
  "links.events": "Its stream.",
} as const;

const CREATE_JOB = {
  type: "What kind of job it is, in the application's own word.",
  title: "What people call it.",
  params: "What the worker needs to know, any JSON.",
  metadata: "What the application wants to find here again.",
  timeoutSeconds: "After so many seconds the job ends as `timeout`. Default: never.",
  timeoutExtends: "Whether each update of the unfinished job sets the deadline anew.",
  credits:
    "Charged with the creation and with each retry; refunded when the attempt fails, times out or is cancelled. Default: 0.",
} as const;

/** The shapes of jobs; `UpdateJob` is among them, because batches of updates refer to it too. */
export const jobSchemas = [
  describe("StatusEvent", statusEventSchema, "A job as one of its versions left it.", STATUS_EVENT),
  describe(
    "Job",
    jobSchema,
    "A job as it stands: its newest event, and what does not change from event to event.",
    JOB,
  ),
  describe(
    "CreatedJob",
    createdJobSchema,
    "A job for whoever made it, or its next attempt: with the URL for an external provider.",
    {
      ...JOB,
      "links.callback":
        "Where a provider may report on this attempt. It has a token in it: whoever has it can write the job.",
    },
  ),
  describe("CreateJob", createJobSchema, "A job to be.", {
    ...CREATE_JOB,
    batchId: "A batch of the same owner, which the job joins.",
    ownerId: "Whose job it is; another owner needs `jobs:write`. Default: the caller.",
  }),
  describe(
    "UpdateJob",
    updateJobSchema,
    "What is named changes, null empties, the rest stays as it is.",
    {
      ...STATE,
      attempt: "Refuse the update unless this attempt is running: for workers that may be late.",
    },
  ),
  describeAny("JobAction", jobActionSchema, "What to say of it; may be left out.", {
    message: "What the job's message becomes.",
  }),
  describe("JobList", jobListSchema, "A page of jobs, the newest first.", {
    items: "The jobs.",
    total: "How many jobs match in all; only with `offset`.",
    nextCursor: "The `cursor` of the next page; null at the end.",
  }),
  describe("JobHistory", jobHistorySchema, "A page of a job's versions, ascending.", {
    items: "The versions.",
    nextCursor: "The `after` of the next page; null at the end.",
  }),
];

/** Those of a job that is created within a batch, under the path of each. */
export const BATCH_JOB_FIELDS = Object.fromEntries(
  Object.entries(CREATE_JOB).map(([name, text]) => [`jobs.${name}`, text]),
) as Readonly<Record<`jobs.${string}`, string>>;

/** Those of one update among many, under the path of each. */
export const UPDATES_FIELDS = Object.fromEntries(
  Object.entries(STATE).map(([name, text]) => [`updates.${name}`, text]),
) as Readonly<Record<`updates.${string}`, string>>;
