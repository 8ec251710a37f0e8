import { z } from "zod";
import {
  batchListSchema,
  batchResourceSchema,
  batchSchema,
  createBatchSchema,
  createdBatchSchema,
  deletedBatchSchema,
  listBatchesQuerySchema,
} from "../../protocol/batch.ts";
import { jobActionSchema } from "../../protocol/job.ts";
import { batchPollSchema } from "../../protocol/poll-answer.ts";
import { streamText } from "./event-text.ts";
import { NO_CONTENT, resumeParameters, STREAM_PROBLEMS } from "./events.ts";
import { BATCH, BATCH_EVENT, BATCH_ID, eventIdOf, MESH_JOBS, MESHES, OWNER } from "./examples.ts";
import { BATCH_JOB_FIELDS } from "./job-schemas.ts";
import { idempotencyKey } from "./jobs.ts";
import { json, type Resource } from "./operation.ts";
import { pathId, queryOf } from "./parameters.ts";
import { describe } from "./schemas.ts";

const FIELDS = {
  id: "The batch.",
  ownerId: "Whose batch it is, and whose jobs.",
  title: "What people call it.",
  total: "How many jobs it has.",
  completed: "How many of them completed.",
  failed: "How many ended otherwise: failed, cancelled or timed out.",
  progress: "The mean of the jobs' progress, where one that ended counts as 100.",
  status:
    "`pending`, `processing`, and when all have ended `completed` if any did, else how they ended.",
  estimatedSecondsRemaining: "From the newest version; null when it would be a guess.",
  version: "Counts the batch's changes.",
  createdAt: "When it was created.",
  finishedAt: "When the last of its jobs ended.",
  omitted: '`["title"]` where a title of more than 8 KiB is left out: in events and lists.',
} as const;

const RESOURCE = {
  ...FIELDS,
  links: "Where to find it; absolute if the server knows its public URL.",
  "links.self": "The batch.",
  "links.events": "Its stream.",
  "links.jobs": "Its jobs.",
} as const;

const batchId = pathId("id", "The batch.", BATCH_ID);

const cancelled = {
  ...BATCH,
  failed: 2,
  progress: 100,
  status: "cancelled",
  version: 3,
  finishedAt: "2026-07-28T09:36:02.733Z",
};

export const batches: Resource = {
  name: "Batches",
  description: "Groups of jobs that are made, watched and cancelled together.",
  schemas: [
    describe("BatchEvent", batchSchema, "A batch as it stands: the data of `batch`.", FIELDS),
    describe("DeletedBatch", deletedBatchSchema, "The data of `deleted` on a stream of a batch.", {
      batchId: "The batch that is no more.",
      deleted: "Tells it from a `BatchEvent`.",
    }),
    describe("Batch", batchResourceSchema, "A batch as it stands.", RESOURCE),
    describe("CreatedBatch", createdBatchSchema, "A batch for whoever made it.", {
      ...RESOURCE,
      jobs: "Its jobs, in the order of the request.",
    }),
    describe("CreateBatch", createBatchSchema, "A batch to be, and its jobs.", {
      title: "What people call it.",
      jobs: "Up to 1,000 jobs, which are created together or not at all.",
      ownerId: "Whose they all are; another owner needs `jobs:write`. Default: the caller.",
      ...BATCH_JOB_FIELDS,
    }),
    describe("BatchList", batchListSchema, "A page of batches, the newest first.", {
      items: "The batches.",
      nextCursor: "The `cursor` of the next page; null at the end.",
    }),
    describe("BatchPoll", batchPollSchema, "The answer to a long poll for a batch.", {
      events: "The newest state, or nothing when the time was up.",
      cursor: "The `after` of the next poll.",
      done: "Nothing follows: poll no more.",
      reset: "`after` meant nothing here: the event is the present state.",
    }),
  ],
  operations: [
    {
      id: "createBatch",
      method: "post",
      path: "/v1/batches",
      summary: "Create a batch",
      description: "Creates the batch with its jobs, and charges all their credits, or nothing.",
      access: ["jobs:create", "jobs:write"],
      parameters: [idempotencyKey],
      body: { required: true, schema: createBatchSchema, examples: { meshes: MESHES } },
      answers: {
        201: {
          description: "The batch and its jobs were created.",
          headers: { Location: { description: "The batch.", example: BATCH.links.self } },
          content: json(createdBatchSchema, { meshes: { ...BATCH, jobs: MESH_JOBS } }),
        },
      },
      problems: ["insufficient_credits", "idempotency_key_in_use", "idempotency_key_reused"],
    },
    {
      id: "listBatches",
      method: "get",
      path: "/v1/batches",
      summary: "List batches",
      description: "The newest first. The caller's own, or any with `jobs:read` or `jobs:write`.",
      access: "caller",
      parameters: queryOf(listBatchesQuerySchema, {
        owner: ["Whose batches; others than one's own need `jobs:read`.", OWNER],
        limit: ["How many at most.", 20],
        cursor: ["The `nextCursor` of the page before."],
      }),
      answers: {
        200: {
          description: "A page of batches.",
          content: json(batchListSchema, { page: { items: [BATCH], nextCursor: null } }),
        },
      },
      problems: [],
    },
    {
      id: "getBatch",
      method: "get",
      path: "/v1/batches/{id}",
      summary: "Read a batch",
      description: "One's own, or any with `jobs:read` or `jobs:write`.",
      access: "caller",
      parameters: [batchId],
      answers: {
        200: { description: "The batch.", content: json(batchResourceSchema, { batch: BATCH }) },
      },
      problems: ["not_found"],
    },
    {
      id: "streamBatch",
      method: "get",
      path: "/v1/batches/{id}/events",
      summary: "Watch a batch",
      description:
        "The newest state whenever one of the jobs changed. States that come faster than they are read are skipped. When all jobs have ended, so does the stream.",
      access: "stream",
      parameters: [batchId, ...resumeParameters(eventIdOf(2))],
      answers: {
        200: {
          description: "States of the batch, as a stream or as the answer to a poll.",
          content: {
            "text/event-stream": {
              schema: z.string(),
              examples: {
                stream: streamText([{ event: "batch", id: eventIdOf(2), data: BATCH_EVENT }]),
              },
            },
            "application/json": {
              schema: batchPollSchema,
              examples: { poll: { events: [BATCH_EVENT], cursor: eventIdOf(2), done: false } },
            },
          },
        },
        204: NO_CONTENT,
      },
      problems: STREAM_PROBLEMS,
    },
    {
      id: "cancelBatch",
      method: "post",
      path: "/v1/batches/{id}/cancel",
      summary: "Cancel a batch",
      description:
        "Cancels those of its jobs that have not ended. By its owner, or with `jobs:write`.",
      access: "caller",
      parameters: [batchId],
      body: {
        required: false,
        schema: jobActionSchema,
        examples: { cancel: { message: "Not needed any more" } },
      },
      answers: {
        200: {
          description: "The batch as it stands now.",
          content: json(batchResourceSchema, { cancel: cancelled }),
        },
      },
      problems: ["not_found"],
    },
  ],
};
