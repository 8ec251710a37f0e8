import { z } from "zod";
import { healthSchema, readinessSchema } from "../../protocol/health.ts";
import { statisticsSchema } from "../../protocol/statistics.ts";
import { ACCESS } from "../access.ts";
import { SCRIPT } from "../docs.ts";
import { OWNER } from "../openapi/examples.ts";
import { defineOperation, json, type Resource, reply } from "../operation.ts";
import { readStatistics } from "../statistics.ts";

const ready = {
  ready: true,
  phase: "started",
  database: true,
  feed: "asleep",
  bell: true,
  lastReadAgoMs: 812,
};

const lane = { isHealthy: true, running: 0, waiting: 0 };

const statistics = {
  streams: {
    total: 3,
    byTransport: { sse: 2, longPoll: 1 },
    byOwner: [{ ownerId: OWNER, streams: 3 }],
    opened: 1204,
    refused: 0,
    cut: { slow: 1, stalled: 4, memory: 0 },
  },
  subscriptions: { topics: 2, subscribers: 3 },
  listener: {
    isHealthy: true,
    state: "asleep",
    bell: true,
    trouble: null,
    lastReadAgoMs: 812,
    changes: 52310,
  },
  events: { delivered: 60412, replayed: 2077, unsentBytes: 0 },
  database: { streams: lane, reads: lane, writes: lane, waiting: lane, service: lane },
  retention: { removed: { completed: 1204, deletions: 318 }, sweptAgoMs: 21_440 },
  process: { uptimeSeconds: 86412.5, rssBytes: 148897792 },
};

const METRICS = `# HELP jobcast_streams_open Streams that are open, and long polls that wait.
# TYPE jobcast_streams_open gauge
jobcast_streams_open{transport="sse"} 2
jobcast_streams_open{transport="long_poll"} 1
`;

export const service: Resource = {
  name: "Service",
  description: "How the process that answers is doing, and this description.",
  operations: [
    defineOperation({
      id: "getStatistics",
      method: "get",
      path: "/v1/stats",
      summary: "Read the statistics",
      description: "Who streams what from the process that answers, and what it has sent.",
      access: ACCESS.getStatistics,
      answers: {
        200: {
          description: "The statistics.",
          content: json(statisticsSchema, { statistics }),
        },
      },
      problems: [],
      handler: ({ statistics: source }) => reply(readStatistics(source)),
    }),
    defineOperation({
      id: "getMetrics",
      method: "get",
      path: "/metrics",
      summary: "Metrics for Prometheus",
      description:
        "The statistics without the owners, and those of the process. Without a token: keep it from the public at the proxy.",
      access: ACCESS.getMetrics,
      answers: {
        200: {
          description: "The metrics in the text format of Prometheus.",
          content: { "text/plain": { schema: z.string(), examples: { metrics: METRICS } } },
        },
      },
      problems: [],
      async handler({ metrics }, { res }) {
        const { text, contentType } = await metrics();
        res.set({ "Content-Type": contentType, "Cache-Control": "no-store" }).send(text);
        return undefined;
      },
    }),
    defineOperation({
      id: "getHealth",
      method: "get",
      path: "/healthz",
      summary: "Is it alive?",
      description: "For whoever restarts processes.",
      access: ACCESS.getHealth,
      answers: {
        200: { description: "Yes.", content: json(healthSchema, { alive: { status: "ok" } }) },
      },
      problems: [],
      handler(_parts, { res }) {
        res.set("Cache-Control", "no-store");
        return reply({ status: "ok" });
      },
    }),
    defineOperation({
      id: "getReadiness",
      method: "get",
      path: "/readyz",
      summary: "Is it ready?",
      description: "For whoever sends requests to processes.",
      access: ACCESS.getReadiness,
      answers: {
        200: { description: "Yes.", content: json(readinessSchema, { ready }) },
        503: {
          description: "No: it starts, stops, or does not hear of changes.",
          content: json(readinessSchema, {
            deaf: { ...ready, ready: false, feed: "connecting", bell: false, lastReadAgoMs: 5210 },
          }),
        },
      },
      problems: [],
      handler({ readiness }, { res }) {
        res.set("Cache-Control", "no-store");
        const answer = readiness();
        return reply(answer, answer.ready ? 200 : 503);
      },
    }),
    defineOperation({
      id: "getDescription",
      method: "get",
      path: "/openapi.json",
      summary: "This description",
      description: "The whole API as OpenAPI 3.1.",
      access: ACCESS.getDescription,
      answers: {
        200: {
          description: "The description.",
          content: json(z.looseObject({ openapi: z.literal("3.1.0") }), {
            description: { openapi: "3.1.0" },
          }),
        },
      },
      problems: [],
      handler({ docs }, { res, baseUrl }) {
        res.set("Cache-Control", "no-cache");
        return reply(docs.describe(baseUrl || "/"));
      },
    }),
    defineOperation({
      id: "getReference",
      method: "get",
      path: "/docs",
      summary: "This reference",
      description: "The description as a page.",
      access: ACCESS.getReference,
      answers: {
        200: {
          description: "The page.",
          content: {
            "text/html": { schema: z.string(), examples: { page: "<!doctype html>" } },
          },
        },
      },
      problems: ["not_found"],
      async handler({ docs }, { req, res }) {
        await docs.sendPage(req, res);
        return undefined;
      },
    }),
    defineOperation({
      id: "getReferenceScript",
      isHidden: true,
      method: "get",
      path: `/docs/${SCRIPT}`,
      summary: "What draws the reference",
      description: "A part of the page.",
      access: ACCESS.getReferenceScript,
      answers: {},
      problems: ["not_found"],
      async handler({ docs }, { req, res }) {
        await docs.sendScript(req, res);
        return undefined;
      },
    }),
  ],
};
