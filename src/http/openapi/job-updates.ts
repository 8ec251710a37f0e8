import {
  jobSchema,
  updateJobSchema,
  updateJobsSchema,
  updateResultsSchema,
} from "../../protocol/job.ts";
import { EVENTS, EXPORT_ID, EXPORT_JOB, JOB_ID, jobAt } from "./examples.ts";
import { UPDATES_FIELDS } from "./job-schemas.ts";
import { json, type Resource } from "./operation.ts";
import { pathId } from "./parameters.ts";
import { problemExample } from "./problems.ts";
import { describe } from "./schemas.ts";

const [, rendering, enlarging] = EVENTS;
const STRANGER_ID = "01984f2e-ffff-7000-8000-0000000000ff";

const exported = {
  ...EXPORT_JOB,
  version: 4,
  attempt: 2,
  status: "completed",
  progress: 100,
  result: { url: "https://files.example/export.csv" },
  startedAt: "2026-07-28T09:33:00.120Z",
  finishedAt: "2026-07-28T09:33:00.120Z",
};

export const jobUpdates: Resource = {
  name: "Workers",
  description:
    "What whoever does the work writes. It may be written in SQL as well, with the same rules and the same events.",
  schemas: [
    describe("UpdateJobs", updateJobsSchema, "Updates of many jobs.", {
      updates: "The updates. Those of one job are applied in their order.",
      "updates.id": "The job.",
      "updates.attempt": "Refuse this update unless this attempt is running.",
      ...UPDATES_FIELDS,
    }),
    describe("UpdateResults", updateResultsSchema, "What became of each update.", {
      results: "In the order of the updates.",
    }),
  ],
  operations: [
    {
      id: "updateJob",
      method: "patch",
      path: "/v1/jobs/{id}",
      summary: "Update a job",
      description:
        "What is named changes, null empties, the rest stays. An update that changes nothing makes no version, and so does a progress that is lower than the present one. To say the same end again is no error; another end is a conflict.",
      access: ["jobs:write"],
      parameters: [pathId("id", "The job.", JOB_ID)],
      body: {
        required: true,
        schema: updateJobSchema,
        examples: {
          progress: {
            attempt: 1,
            status: "processing",
            progress: 40,
            stage: "rendering",
            message: "Step 12 of 30",
          },
        },
      },
      answers: {
        200: {
          description: "The job as it stands now.",
          content: json(jobSchema, { progress: jobAt(rendering) }),
        },
      },
      problems: ["not_found", "job_conflict", "attempt_mismatch"],
    },
    {
      id: "updateJobs",
      method: "patch",
      path: "/v1/jobs",
      summary: "Update many jobs",
      description:
        "Up to 1,000 updates in one transaction, with a result for each: one that is refused does not keep the others from being applied.",
      access: ["jobs:write"],
      body: {
        required: true,
        schema: updateJobsSchema,
        examples: {
          three: {
            updates: [
              { id: JOB_ID, progress: 60, stage: "enlarging", message: null },
              { id: EXPORT_ID, status: "completed", result: exported.result },
              { id: STRANGER_ID, progress: 10 },
            ],
          },
        },
      },
      answers: {
        200: {
          description: "A result for each update.",
          content: json(updateResultsSchema, {
            three: {
              results: [
                { id: JOB_ID, ok: true, job: jobAt(enlarging) },
                { id: EXPORT_ID, ok: true, job: exported },
                { id: STRANGER_ID, ok: false, problem: problemExample("not_found").value },
              ],
            },
          }),
        },
      },
      problems: [],
    },
  ],
};
