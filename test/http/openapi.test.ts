import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ERROR_CODES } from "../../src/errors.ts";
import { PROBLEM_TEXTS } from "../../src/http/openapi/problem-texts.ts";
import { PROBLEM_STATUS } from "../../src/http/problem.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { EventStreamParser, type StreamEvent } from "../support/event-stream.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import {
  type Description,
  type Media,
  mistakesOfEvent,
  readDescription,
  type Schema,
} from "./description.ts";

type Layer = {
  readonly route?: {
    readonly path: string;
    readonly stack: readonly { readonly method?: string }[];
  };
  readonly handle: { readonly stack?: readonly Layer[] };
};

/** Parts of the page /docs and no calls. */
const PARTS_OF_A_PAGE = /^GET \/docs\/.+\.js$/;

let db: TestDatabase;
let server: TestServer;
let document: Record<string, unknown>;
let description: Description;

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer({ databaseUrl: db.url });
  document = (await server.call("GET", "/openapi.json")).body;
  description = readDescription(document);
});
afterAll(async () => {
  await server?.stop();
  await db?.drop();
});

/** Every route of the running app, as the description writes it. */
function routesOf(stack: readonly Layer[]): string[] {
  return stack.flatMap(({ route, handle }) => {
    if (!route) return routesOf(handle.stack ?? []);
    const path = route.path.replace(/:(\w+)/g, "{$1}");
    const methods = route.stack.map(({ method }) => method?.toUpperCase());
    // Of every path OPTIONS, and what answers all the other methods.
    return methods.flatMap((method) => (method && method !== "OPTIONS" ? `${method} ${path}` : []));
  });
}

describe("the description of the API", () => {
  it("has every route of the service, and none that it has not", () => {
    const app = server.jobcast.app as unknown as { router: { stack: Layer[] } };
    const routes = new Set(routesOf(app.router.stack));
    const calls = [...routes].filter((route) => !PARTS_OF_A_PAGE.test(route));
    expect(calls.length).toBeGreaterThan(20);
    const described = description.operations.map(({ method, path }) => `${method} ${path}`);
    expect(described.sort()).toEqual(calls.sort());
  });

  it("says of every operation, parameter, answer and field what it is", () => {
    const silent: string[] = [];
    const hear = (name: string, text: unknown) => {
      if (typeof text !== "string" || text.length < 3) silent.push(name);
    };
    const ids = new Set<string>();
    for (const {
      operationId,
      summary,
      description: text,
      parameters,
      responses,
    } of description.operations) {
      ids.add(operationId);
      hear(operationId, summary);
      hear(operationId, text);
      for (const parameter of parameters) {
        hear(`${operationId} ${parameter.name}`, parameter.description);
      }
      for (const [status, answer] of Object.entries(responses)) {
        hear(`${operationId} ${status}`, answer.description);
      }
    }
    for (const [name, schema] of Object.entries(description.schemas)) {
      hear(name, schema["description"]);
      for (const [field, each] of Object.entries((schema["properties"] ?? {}) as Schema)) {
        hear(`${name}.${field}`, (each as Schema)["description"]);
      }
    }
    expect(silent).toEqual([]);
    expect(ids.size).toBe(description.operations.length);
  });

  it("has an example for every body, and each is as its schema says", () => {
    const mistakes: string[] = [];
    const look = (place: string, content: Readonly<Record<string, Media>> = {}) => {
      for (const [type, { schema, examples }] of Object.entries(content)) {
        if (Object.keys(examples).length === 0) mistakes.push(`${place} ${type}: no example`);
        for (const [name, { value }] of Object.entries(examples)) {
          const found = description.mistakesOf(schema, value);
          mistakes.push(...found.map((mistake) => `${place} ${type} ${name}: ${mistake}`));
        }
      }
    };
    for (const { operationId, requestBody, responses } of description.operations) {
      look(operationId, requestBody?.content);
      for (const [status, { content }] of Object.entries(responses)) {
        look(`${operationId} ${status}`, content);
      }
    }
    expect(mistakes).toEqual([]);
  });

  it("shows streams with events whose data are as their schemas say", () => {
    const streams = description.operations.flatMap(({ responses }) =>
      Object.values(responses["200"]?.content?.["text/event-stream"]?.examples ?? {}),
    );
    expect(streams).toHaveLength(3);
    for (const { value } of streams) {
      const events: StreamEvent[] = [];
      const parser = new EventStreamParser((event) => events.push(event));
      parser.push(Buffer.from(String(value)));
      expect(events.length).toBeGreaterThan(0);
      for (const event of events) expect(mistakesOfEvent(description, event)).toEqual([]);
    }
  });

  it("leads to the server by its public URL, or by where it was found", async () => {
    expect(document["servers"]).toEqual([{ url: "/" }]);
    const other = await startTestServer({
      databaseUrl: db.url,
      publicUrl: "https://jobs.example/v",
    });
    const { body } = await other.call("GET", "/openapi.json");
    await other.stop();
    expect(body.servers).toEqual([{ url: "https://jobs.example/v" }]);
  });
});

describe("docs/errors.md", () => {
  it("lists exactly the codes, with their statuses and in the words of the description", async () => {
    const text = await readFile(new URL("../../docs/errors.md", import.meta.url), "utf8");
    const rows = text
      .split("\n")
      .filter((line) => line.startsWith("| `"))
      .map((line) => line.replace(/ +/g, " "));
    const expected = ERROR_CODES.map((code) => {
      const { when, remedy } = PROBLEM_TEXTS[code];
      return `| \`${code}\` | ${PROBLEM_STATUS[code]} | ${when} | ${remedy} |`;
    });
    expect(rows).toEqual(expected);
  });
});
