import { z } from "zod";
import { closeSchema, pingSchema, readySchema, resetSchema } from "../../protocol/control-event.ts";
import { deletedSchema } from "../../protocol/event.ts";
import { jobIdSchema } from "../../protocol/job.ts";
import { statusPollSchema } from "../../protocol/poll-answer.ts";
import { MAX_NAMED_JOBS, waitSchema } from "../events/events-request.ts";
import { jobEvents } from "../events/job-events.ts";
import { scopeEvents } from "../events/scope-events.ts";
import { visit } from "../events/visit.ts";
import { streamText } from "../openapi/event-text.ts";
import { CURSOR, EVENTS, eventIdOf, JOB_ID } from "../openapi/examples.ts";
import { header, type ParameterText, parametersOf, pathId } from "../openapi/parameters.ts";
import { describe } from "../openapi/schemas.ts";
import { type Answer, defineOperation, type Operation, type Resource } from "../operation.ts";

const [, rendering, enlarging] = EVENTS;

const pingAfter = (id: string) => ({
  event: "ping",
  id,
  data: { at: "2026-07-28T09:30:27.412Z" },
});

/** The parameters of whatever streams: where to go on, and how long a poll waits. */
export function resumeParameters(lastId: string) {
  const lastEventId: ParameterText = [
    "The last id that was seen: go on after it. The header wins, since a browser repeats a stale URL.",
    lastId,
  ];
  return [
    ...parametersOf(
      z.object({
        lastEventId: z.string().optional(),
        after: z.string().optional(),
        wait: waitSchema,
      }),
      {
        lastEventId,
        after: [
          "The same, in the words of long polling: the `cursor` of the answer before.",
          lastId,
        ],
        wait: ["Long polling only: seconds to wait when there is nothing yet.", 0],
      },
    ),
    header("Last-Event-ID", z.string().optional(), [
      "The last id that was seen. `EventSource` sends it by itself when it reconnects.",
      lastId,
    ]),
  ];
}

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

| \`event:\` | id | data | says |
|---|---|---|---|
| \`status\` | yes | \`StatusEvent\` | a version of a job |
| \`batch\` | yes | \`BatchEvent\` | the newest state of a batch |
| \`reset\` | yes | the state, or \`Reset\` over many jobs | your last id means nothing here: start over from the present state |
| \`deleted\` | yes | \`Deleted\`, or \`DeletedBatch\` | it is no more; a stream of it alone ends, and its next request is answered with 404 |
| \`ready\` | yes | \`Ready\` | over many jobs: nothing to tell yet, and the place to come back to |
| \`ping\` | the last again | \`Ping\` | the heartbeat, every 8 seconds |
| \`close\` | the last again | \`Close\` | the server ends the stream before its job has ended |

Listen with \`addEventListener("status", ...)\`: named events do not reach \`onmessage\`. A client that leaves too much unread is cut and resumes by its last id. A stream ends when the token that opened it expires.`,
  schemas: [
    describe("Ping", pingSchema, "The data of `ping`, the heartbeat.", { at: "When it was sent." }),
    describe("Close", closeSchema, "The data of `close`, the last event of such a stream.", {
      reason: "Why the server ends the stream.",
      retryMs: "Milliseconds to wait before coming back; jittered, and sent as `retry:` too.",
    }),
    describe("Reset", resetSchema, "The data of `reset` over many jobs; their states follow.", {
      reason: "Why the client has to start over.",
    }),
    describe("Deleted", deletedSchema, "The data of `deleted`; among the events of a poll, too.", {
      jobId: "The job that is no more.",
      version: "The one after the last that it had.",
      deleted: "Tells it from a `StatusEvent`.",
    }),
    describe("Ready", readySchema, "The data of `ready`: nothing but its id.", {}),
    describe("StatusPoll", statusPollSchema, "The answer to a long poll for jobs.", {
      events: "What is new; none when the time was up.",
      cursor: "The `after` of the next poll.",
      done: "Nothing follows: poll no more.",
      reset: "`after` meant nothing here: the events are the present state, to start over from.",
    }),
  ],
  operations: [
    defineOperation({
      id: "streamJob",
      method: "get",
      path: "/v1/jobs/{id}/events",
      summary: "Watch a job",
      description:
        "Without a last id the present state, then live; with one, every version above it, then live; 0 is the whole history. When the job has ended the stream sends what is missing and ends.",
      access: "stream",
      parameters: [pathId("id", "The job.", JOB_ID), ...resumeParameters(eventIdOf(1))],
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
      handler: (parts, call) => visit(jobEvents, parts, call),
    }),
    defineOperation({
      id: "streamJobs",
      method: "get",
      path: "/v1/events",
      summary: "Watch many jobs",
      description:
        "The named jobs, those of a batch, or all of the caller's. First the present states (without names, of what has not ended), then live. No committed change is missed; one may repeat after a connection broke, which `jobId` and `version` tell. The stream does not end by itself.",
      access: "stream",
      parameters: [
        ...parametersOf(
          z.object({
            jobs: z.array(jobIdSchema).min(1).max(MAX_NAMED_JOBS).optional(),
            batch: jobIdSchema.optional(),
          }),
          {
            jobs: ["Ids with commas between them. Not with `batch`.", JOB_ID],
            batch: ["All jobs of a batch. Not with `jobs`."],
          },
        ),
        ...resumeParameters(CURSOR),
      ],
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
      handler: (parts, call) => visit(scopeEvents, parts, call),
    }),
  ],
};
