import { formatEventId } from "../../change/event-id.ts";
import type { Batch, BatchResource } from "../../protocol/batch.ts";
import type { StatusEvent } from "../../protocol/event.ts";
import type { CreatedJob, Job } from "../../protocol/job.ts";

/*
 * One story for all examples, so that who reads them in a row meets the same jobs again: alice has
 * an image made and a file exported.
 */

export const OWNER = "alice";
export const JOB_ID = "01984f2e-6a10-7b3c-9d52-4e8f1c0a7b61";
export const EXPORT_ID = "01984f2e-91c4-7e07-8a3f-2b6d5c9e0f14";
export const BATCH_ID = "01984f2f-0b7e-7d18-b6c4-93a1e5f28d70";
/** Of streams of one job or batch. */
export const eventIdOf = (version: number) => formatEventId(version, "0f9d21");

/** Of streams over many jobs: opaque. */
export const CURSOR = "k3v9-1f4.2";

/** `POST /v1/jobs` in many words and in few. */
export const IMAGE = {
  type: "image",
  title: "A red bicycle",
  params: { prompt: "a red bicycle on a bridge", size: "1024x1024" },
  metadata: { project: "postcards" },
  credits: 5,
  timeoutSeconds: 600,
};
export const EXPORT = { type: "export" };

const PENDING: StatusEvent = {
  jobId: JOB_ID,
  version: 1,
  attempt: 1,
  status: "pending",
  progress: 0,
  stage: null,
  message: null,
  counts: null,
  result: null,
  error: null,
  batchId: null,
  estimatedSecondsRemaining: null,
  source: "api",
  occurredAt: "2026-07-28T09:30:00.000Z",
  type: IMAGE.type,
  title: IMAGE.title,
  metadata: IMAGE.metadata,
};

const RENDERING: StatusEvent = {
  ...PENDING,
  version: 2,
  status: "processing",
  progress: 40,
  stage: "rendering",
  message: "Step 12 of 30",
  occurredAt: "2026-07-28T09:30:12.412Z",
};

const ENLARGING: StatusEvent = {
  ...RENDERING,
  version: 3,
  progress: 60,
  stage: "enlarging",
  message: null,
  estimatedSecondsRemaining: 8,
  occurredAt: "2026-07-28T09:30:24.085Z",
};

/** The versions of the image's job, ascending. */
export const EVENTS = [PENDING, RENDERING, ENLARGING] as const;

const { jobId, ...FIRST } = PENDING;

export const JOB: Job = {
  id: jobId,
  ...FIRST,
  ownerId: OWNER,
  params: IMAGE.params,
  credits: { charged: 5, refunded: 0 },
  cost: null,
  createdAt: PENDING.occurredAt,
  updatedAt: PENDING.occurredAt,
  startedAt: null,
  finishedAt: null,
  timeoutAt: "2026-07-28T09:40:00.000Z",
  links: { self: `/v1/jobs/${JOB_ID}`, events: `/v1/jobs/${JOB_ID}/events` },
};

/** The image's job as one of its versions left it. */
export function jobAt({ jobId: id, ownerId: _, ...event }: StatusEvent): Job {
  return {
    ...JOB,
    ...event,
    id,
    updatedAt: event.occurredAt,
    startedAt: event.status === "pending" ? null : RENDERING.occurredAt,
  };
}

export const EXPORT_JOB: Job = {
  ...JOB,
  id: EXPORT_ID,
  type: EXPORT.type,
  title: null,
  params: null,
  metadata: null,
  credits: { charged: 0, refunded: 0 },
  timeoutAt: null,
  occurredAt: "2026-07-28T09:31:00.000Z",
  createdAt: "2026-07-28T09:31:00.000Z",
  updatedAt: "2026-07-28T09:31:00.000Z",
  links: { self: `/v1/jobs/${EXPORT_ID}`, events: `/v1/jobs/${EXPORT_ID}/events` },
};

/** `POST /v1/batches`: two jobs. */
export const MESHES = {
  title: "Two meshes",
  jobs: [
    { type: "mesh", params: { file: "bridge.obj" } },
    { type: "mesh", params: { file: "bicycle.obj" } },
  ] as const,
};

export const BATCH_EVENT: Batch = {
  id: BATCH_ID,
  ownerId: OWNER,
  title: MESHES.title,
  metadata: null,
  total: 2,
  completed: 0,
  failed: 0,
  progress: 0,
  status: "pending",
  estimatedSecondsRemaining: null,
  version: 2,
  createdAt: "2026-07-28T09:35:00.000Z",
  finishedAt: null,
};

export const BATCH: BatchResource = {
  ...BATCH_EVENT,
  links: {
    self: `/v1/batches/${BATCH_ID}`,
    events: `/v1/batches/${BATCH_ID}/events`,
    jobs: `/v1/jobs?batchId=${BATCH_ID}`,
  },
};

/** Its jobs, as their creation answers, and one that is added to it. */
export const [MESH_JOBS, ADDED_JOB] = [
  [
    meshJob("01984f2f-0b7e-7d19-a1c3-5e7f90b2d466", 0),
    meshJob("01984f2f-0b7e-7d1a-8f05-c2d4e6b81a39", 1),
  ],
  meshJob("01984f2f-7c31-7a52-9e4d-0a6b8c2f5d17", 0),
] as const;

function meshJob(id: string, index: 0 | 1): CreatedJob {
  return asCreated({
    ...EXPORT_JOB,
    ...MESHES.jobs[index],
    id,
    batchId: BATCH_ID,
    createdAt: BATCH_EVENT.createdAt,
    updatedAt: BATCH_EVENT.createdAt,
    occurredAt: BATCH_EVENT.createdAt,
    links: { self: `/v1/jobs/${id}`, events: `/v1/jobs/${id}/events` },
  });
}

/** What only looks like one, another for each attempt of each job. */
export function callbackToken({ id, attempt }: Job): string {
  return `${attempt}.tkd2qo.${id.slice(-12)}V1sVJxk2cC8yqgH4eTfUaBvDi7LpRwX`;
}

/** A job as its creation answers: with the URL for its provider. */
export function asCreated(job: Job): CreatedJob {
  const callback = `/v1/callbacks/${job.id}?token=${callbackToken(job)}`;
  return { ...job, links: { ...job.links, callback } };
}
