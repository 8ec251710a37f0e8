import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { callbackToken, JOB } from "../../src/http/openapi/examples.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";
import {
  type Description,
  mistakesOfEvent,
  type Operation,
  readDescription,
} from "./description.ts";
import { type Trial, trialsOf } from "./trials.ts";

/** The story that the examples tell: these come first, in this order, and those come last. */
const FIRST = [
  "grantCredits",
  "createJob",
  "cancelJob",
  "retryJob",
  "updateJob",
  "updateJobs",
  "createBatch",
  "setOverdraft",
  "adjustCredits",
];
const LAST = [
  "receiveCallback",
  "retryBatch",
  "addJobs",
  "cancelBatch",
  "deleteJob",
  "deleteBatch",
];

let db: TestDatabase;
let server: TestServer;
let description: Description;
/** Ids and tokens of the examples, and what they are called in this run. */
const names = new Map<string, string>();

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer({ databaseUrl: db.url, presence: "on" });
  description = readDescription((await server.call("GET", "/openapi.json")).body);
});
afterAll(async () => {
  await server?.stop();
  await db?.drop();
});

function place({ operation: { operationId } }: Trial): number {
  if (FIRST.includes(operationId)) return FIRST.indexOf(operationId) - FIRST.length;
  return LAST.indexOf(operationId) + 1;
}

/** Replaces the ids of the examples by those that earlier answers have given in their place. */
function translate(text: string): string {
  return [...names].reduce((all, [example, real]) => all.replaceAll(example, real), text);
}

/** Words that may be ids or tokens: of a URL each part for itself. */
function wordsOf(value: unknown): string[] {
  if (typeof value === "string") return value.split(/[^\w.-]+/).filter((word) => word.length >= 16);
  if (typeof value !== "object" || value === null) return [];
  return Object.keys(value)
    .sort()
    .flatMap((key) => wordsOf((value as Record<string, unknown>)[key]));
}

/** Learns what an answer calls what the description called otherwise. */
function learn(shown: unknown, real: unknown): void {
  const [examples, answers] = [wordsOf(shown), wordsOf(real)];
  if (examples.length !== answers.length) return;
  for (const [index, example] of examples.entries()) {
    const word = answers[index] ?? example;
    if (word !== example && !names.has(example)) names.set(example, word);
  }
}

function credentials({ security }: Operation, claims = {}): Record<string, string> {
  if (security.length === 0) return {};
  if (security.some((scheme) => "callbackToken" in scheme)) {
    return { "x-callback-token": translate(callbackToken(JOB)) };
  }
  return { authorization: `Bearer ${server.token(claims)}` };
}

async function send({ operation, url, headers, body }: Trial, extra: Record<string, string>) {
  return fetch(server.url + translate(url), {
    method: operation.method,
    headers: {
      ...Object.fromEntries(
        Object.entries(headers).map(([name, value]) => [name, translate(value)]),
      ),
      ...(body !== undefined && { "content-type": "application/json" }),
      ...extra,
    },
    ...(body !== undefined && { body: translate(JSON.stringify(body)) }),
  });
}

/** An answer as far as it can be foreseen: moments and estimates cannot. */
function foreseeable(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (key, member) => {
      if (key === "estimatedSecondsRemaining") return undefined;
      const isMoment = typeof member === "string" && /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(member);
      return isMoment ? "a moment" : member;
    }),
  );
}

async function tryCall(trial: Trial): Promise<void> {
  const response = await send(trial, credentials(trial.operation));
  const text = await response.text();
  expect([trial.name, response.status, text]).toEqual([trial.name, trial.status, text]);
  expect(response.headers.get("content-type") ?? "").toContain(trial.mediaType);
  const answer = description.operations.find((each) => each === trial.operation)?.responses;
  for (const header of Object.keys(answer?.[trial.status]?.headers ?? {})) {
    expect([trial.name, header, response.headers.has(header)]).toEqual([trial.name, header, true]);
  }
  if (trial.mediaType !== "application/json") return;
  const body: unknown = JSON.parse(text);
  expect([trial.name, ...description.mistakesOf(trial.schema, body)]).toEqual([trial.name]);
  learn(trial.shown, body);
  if (trial.operation.method !== "GET" && trial.shown !== undefined) {
    const shown = JSON.parse(translate(JSON.stringify(trial.shown)));
    expect({ [trial.name]: foreseeable(body) }).toEqual({ [trial.name]: foreseeable(shown) });
  }
}

async function tryStream(trial: Trial): Promise<void> {
  const headers = Object.fromEntries(
    Object.entries(trial.headers).map(([name, value]) => [name, translate(value)]),
  );
  const stream = await openStream({
    url: server.url,
    path: translate(trial.url),
    headers: { ...headers, ...credentials(trial.operation) },
  });
  expect([trial.name, stream.status]).toEqual([trial.name, trial.status]);
  expect(stream.headers["content-type"]).toContain(trial.mediaType);
  // After the last id that an example shows there may be nothing yet.
  if (trial.shown !== undefined) await stream.next();
  for (const event of stream.events) {
    expect([trial.name, ...mistakesOfEvent(description, event)]).toEqual([trial.name]);
  }
  await stream.close();
}

// What follows speaks of the jobs that are made here.
describe("every example request", () => {
  it("is answered as the description says", async () => {
    const ids = description.operations.map(({ operationId }) => operationId);
    expect(ids).toEqual(expect.arrayContaining([...FIRST, ...LAST]));
    const trials = trialsOf(description).sort((one, other) => place(one) - place(other));
    expect(new Set(trials.map(({ operation }) => operation.operationId))).toEqual(new Set(ids));
    // What is deleted is needed below.
    for (const trial of trials.filter(({ operation }) => operation.method !== "DELETE")) {
      // Once more, with a key, they would be other requests, and the story another one.
      if (/^(retryJob|retryBatch|addJobs) .*Idempotency-Key$/.test(trial.name)) continue;
      if (trial.mediaType === "text/event-stream") await tryStream(trial);
      else await tryCall(trial);
    }
  });
});

/** The first example request of each operation; of a stream, the poll. */
function firstTrials(isWanted: (operation: Operation) => boolean): Trial[] {
  const trials = trialsOf(description).filter(({ mediaType }) => mediaType !== "text/event-stream");
  return description.operations
    .filter(isWanted)
    .map((operation) => trials.find((trial) => trial.operation === operation))
    .filter((trial) => trial !== undefined);
}

/** An answer that is a problem, of a code that the description has for this operation. */
async function expectProblem(trial: Trial, response: Response, code: string): Promise<void> {
  const problem = (await response.json()) as { code: string };
  const media = trial.operation.responses[response.status]?.content?.["application/problem+json"];
  expect([trial.name, problem.code]).toEqual([trial.name, code]);
  expect([trial.name, Object.keys(media?.examples ?? {})]).toEqual([
    trial.name,
    expect.arrayContaining([code]),
  ]);
  expect([trial.name, ...description.mistakesOf(media?.schema ?? {}, problem)]).toEqual([
    trial.name,
  ]);
}

const isSecured = ({ security }: Operation) => security.length > 0;
const isForProviders = ({ security }: Operation) =>
  security.some((each) => "callbackToken" in each);
const isStream = ({ security }: Operation) => security.some((each) => "query" in each);
const takesStreamToken = (operation: Operation) =>
  isStream(operation) || operation.description.includes("A stream token is enough");
const scopesOf = ({ security }: Operation) => security.flatMap((scheme) => scheme["bearer"] ?? []);

describe("what a request lacks", () => {
  it("is a token: 401 wherever the description asks for one", async () => {
    for (const trial of firstTrials(isSecured)) {
      await expectProblem(trial, await send(trial, {}), "unauthenticated");
    }
  });

  it("is a scope: 403 without those that the description names, and any one is enough", async () => {
    const trials = firstTrials((operation) => scopesOf(operation).length > 0);
    expect(trials.length).toBeGreaterThan(4);
    for (const trial of trials) {
      const as = (scope: string) => credentials(trial.operation, { scope });
      await expectProblem(trial, await send(trial, as("")), "insufficient_scope");
      for (const scope of scopesOf(trial.operation)) {
        const { status } = await send(trial, as(scope));
        expect([trial.name, scope, status]).toEqual([
          trial.name,
          scope,
          expect.not.toBeOneOf([401, 403]),
        ]);
      }
    }
  });

  it("is more than a stream token, except where the description takes one", async () => {
    const { body } = await server.call("POST", "/v1/stream-tokens");
    for (const trial of firstTrials((each) => isSecured(each) && !isForProviders(each))) {
      const response = await send(trial, { authorization: `Bearer ${body.token}` });
      if (!takesStreamToken(trial.operation))
        await expectProblem(trial, response, "insufficient_scope");
      else expect([trial.name, response.status]).toEqual([trial.name, 200]);
    }
  });

  it("is sense: 400 for a body that is none, 404 for an id that nobody has", async () => {
    const trials = firstTrials(({ parameters, requestBody }) => {
      return requestBody !== undefined || parameters.some((each) => each.in === "path");
    });
    for (const trial of trials) {
      const own = credentials(trial.operation);
      if (trial.body !== undefined) {
        await expectProblem(trial, await send({ ...trial, body: [] }, own), "invalid_request");
      }
      const nobodys = { ...trial, url: trial.url.replace(/[\da-f-]{36}/, randomUUID()) };
      // A callback's token is for one job, so that nobody learns which others there are.
      if (nobodys.url !== trial.url && !isForProviders(trial.operation)) {
        await expectProblem(trial, await send(nobodys, own), "not_found");
      }
    }
  });
});

describe("204", () => {
  // Trials of scopes have added jobs.
  beforeAll(async () => {
    await db.query(
      "update jobcast.jobs set status = 'cancelled' where status in ('pending', 'processing')",
    );
  });

  it("is the answer to who has seen the end, where the description says so", async () => {
    const streams = firstTrials((each) => isStream(each) && "204" in each.responses);
    expect(streams).toHaveLength(2);
    for (const { operation, url } of streams) {
      const path = translate(url.split("?")[0] ?? "");
      const state = (await server.call("GET", path.replace("/events", ""))).body;
      expect(state.finishedAt).not.toBeNull();
      const { status } = await fetch(server.url + path, {
        headers: { ...credentials(operation), "last-event-id": String(state.version) },
      });
      expect([url, status]).toEqual([url, 204]);
    }
  });
});

describe("DELETE", () => {
  it("is answered as the description says, and then with 404", async () => {
    const trials = firstTrials(({ method }) => method === "DELETE");
    expect(trials).toHaveLength(2);
    for (const trial of trials) {
      await tryCall(trial);
      await expectProblem(trial, await send(trial, credentials(trial.operation)), "not_found");
    }
  });
});
