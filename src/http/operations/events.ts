import { z } from "zod";
import { statusPollSchema } from "../../protocol/poll-answer.ts";
import { ACCESS } from "../access.ts";
import { withAdmission } from "../events/admission.ts";
import { jobEvents } from "../events/job-events.ts";
import { scopeEvents } from "../events/scope-events.ts";
import { scopeQuery } from "../events/scope-query.ts";
import { EVENT_TABLE } from "../openapi/event-table.ts";
import { streamText } from "../openapi/event-text.ts";
import { CURSOR, EVENTS, eventIdOf, JOB_ID } from "../openapi/examples.ts";
import { type Answer, defineOperation, type Operation, type Resource } from "../operation.ts";
import { jobPath, resumeHead, resumeQuery } from "./parameters.ts";

const [, rendering, enlarging] = EVENTS;

const pingAfter = (id: string) => ({
  event: "ping",
  id,
  data: { at: "2026-07-28T09:30:27.412Z" },
});

/** What every stream may answer with, beside its events. */
export const NO_CONTENT: Answer = {
  description:
    "The last id is that of the end: nothing follows, and `EventSource` stops reconnecting.",
};

export const STREAM_PROBLEMS: Operation["problems"] = [
  "not_found",
  "not_acceptable",
  "too_many_streams",
  "draining",
];

export const events: Resource = {
  name: "Streams",
  description: `One URL for each thing; the \`Accept\` header picks the transport. \`text/event-stream\`, or none, is Server-Sent Events; \`application/json\` is long polling with the same cursors, so a client may switch at any event.

${EVENT_TABLE.join("\n")}

Listen with \`addEventListener("status", ...)\`: named events do not reach \`onmessage\`. A client that leaves too much unread is cut and resumes by its last id. A stream ends when the token that opened it expires.`,
  operations: [
    defineOperation({
      id: "streamJob",
      method: "get",
      path: "/v1/jobs/{id}/events",
      summary: "Watch a job",
      description:
        "Without a last id the present state, then live; with one, every version above it, then live; 0 is the whole history. When the job has ended the stream sends what is missing and ends.",
      access: ACCESS.streamJob,
      params: jobPath(JOB_ID),
      reads: resumeQuery(eventIdOf(1)),
      headers: resumeHead(eventIdOf(1)),
      answers: {
        200: {
          description: "The job's versions, as a stream or as the answer to a poll.",
          content: {
            "text/event-stream": {
              schema: z.string(),
              examples: {
                stream: streamText([
                  ...[rendering, enlarging].map((data) => ({
                    event: "status",
                    id: eventIdOf(data.version),
                    data,
                  })),
                  pingAfter(eventIdOf(3)),
                ]),
              },
            },
            "application/json": {
              schema: statusPollSchema,
              examples: {
                poll: { events: [rendering, enlarging], cursor: eventIdOf(3), done: false },
              },
            },
          },
        },
        204: NO_CONTENT,
      },
      problems: STREAM_PROBLEMS,
      handler: (parts, call) => withAdmission(jobEvents, parts, call),
    }),
    defineOperation({
      id: "streamJobs",
      method: "get",
      path: "/v1/events",
      summary: "Watch many jobs",
      description:
        "The named jobs, those of a batch or of an owner, or all that the caller may read: his own, and with `jobs:read` everybody's. First the present states (of an owner and of all, of what has not ended), then live. No committed change is missed; one may repeat after a connection broke, which `jobId` and `version` tell. The stream does not end by itself.",
      access: ACCESS.streamJobs,
      reads: z.object({ ...scopeQuery.shape, ...resumeQuery(CURSOR).shape }),
      headers: resumeHead(CURSOR),
      answers: {
        200: {
          description: "Changes of the jobs, as a stream or as the answer to a poll.",
          content: {
            "text/event-stream": {
              schema: z.string(),
              examples: {
                stream: streamText([
                  { event: "status", id: CURSOR, data: enlarging },
                  pingAfter(CURSOR),
                ]),
              },
            },
            "application/json": {
              schema: statusPollSchema,
              examples: { poll: { events: [enlarging], cursor: CURSOR, done: false } },
            },
          },
        },
      },
      problems: STREAM_PROBLEMS,
      handler: (parts, call) => withAdmission(scopeEvents, parts, call),
    }),
  ],
};
