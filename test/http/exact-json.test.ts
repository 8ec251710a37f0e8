import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/** What no double holds, or no double writes as it was written. */
const NUMBERS = [
  "750727362669608961",
  "12345678901234567891",
  "-9007199254740993",
  "0.1000000000000000055511151231257827",
  "1.10",
  "3.141592653589793238462643383279502884197",
  "123456789012345678901234567890.123456789012345678901234567890",
];
const VALUE = `{"numbers":[${NUMBERS.join(", ")}]}`;

let database: TestDatabase;
let server: TestServer;
beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
});
afterAll(async () => {
  await server.stop();
  await database.drop();
});

async function send(method: string, path: string, body?: string | Uint8Array, type?: string) {
  const response = await fetch(new URL(path, server.url), {
    method,
    headers: {
      authorization: `Bearer ${server.token()}`,
      accept: "application/json",
      "content-type": type ?? "application/json",
    },
    ...(body !== undefined && { body }),
  });
  return { status: response.status, text: await response.text() };
}

const idIn = (text: string) => JSON.parse(text).id as string;

async function newJob(): Promise<{ id: string; callback: string }> {
  const { id, links } = JSON.parse((await send("POST", "/v1/jobs", '{"type":"t"}')).text);
  return { id, callback: links.callback };
}

/** Every number, as it was written. */
function expectExact(text: string): void {
  const found = /"numbers": ?\[([^\]]*)\]/.exec(text)?.[1] ?? "";
  expect(found.split(/, ?/)).toEqual(NUMBERS);
}

/** A job's result everywhere where it is told. */
async function expectExactResult(id: string): Promise<void> {
  for (const path of [
    `/v1/jobs/${id}`,
    `/v1/jobs/${id}/history?after=1`,
    `/v1/jobs/${id}/events?after=1&wait=0`,
    `/v1/events?jobs=${id}&wait=0`,
  ]) {
    expectExact((await send("GET", path)).text);
  }
  const stream = await openStream({
    url: server.url,
    path: `/v1/events?jobs=${id}`,
    token: server.token(),
  });
  expectExact((await stream.next(({ type }) => type === "status")).data);
  await stream.close();
}

describe("numbers are told as they came", () => {
  it("in params and metadata, of a job and of a batch", async () => {
    const job = `{"type":"t","params":${VALUE},"metadata":{"of":${VALUE}}}`;
    const created = await send("POST", "/v1/jobs", job);
    expect(created.status).toBe(201);
    const read = await send("GET", `/v1/jobs/${idIn(created.text)}`);
    const batch = await send("POST", "/v1/batches", `{"jobs":[${job},${job}]}`);
    const list = await send("GET", `/v1/jobs?batch=${idIn(batch.text)}`);
    for (const { text } of [created, read, batch, list]) {
      const members = text.match(/"numbers": ?\[[^\]]*\]/g) ?? [];
      expect(members.length % 2 === 0 && members.length > 0).toBe(true);
      for (const member of members) expectExact(member);
    }
  });

  it("in a result by PATCH, and while it is watched", async () => {
    const { id } = await newJob();
    const stream = await openStream({
      url: server.url,
      path: `/v1/jobs/${id}/events`,
      token: server.token(),
    });
    await stream.next();
    const patched = await send("PATCH", `/v1/jobs/${id}`, `{"result":${VALUE}}`);
    expectExact(patched.text);
    expectExact((await stream.next()).data);
    await stream.close();
    await expectExactResult(id);
  });

  it("in results by the PATCH of many", async () => {
    const [one, other] = [await newJob(), await newJob()];
    const updates = [one, other].map(({ id }) => `{"id":"${id}","result":${VALUE}}`);
    const { text } = await send("PATCH", "/v1/jobs", `{"updates":[${updates}]}`);
    for (const each of JSON.parse(text).results) expect(each.ok).toBe(true);
    for (const { id } of [one, other]) await expectExactResult(id);
  });

  it("in results by callbacks, in our words and in a provider's", async () => {
    for (const body of [
      `{"status":"completed","result":${VALUE}}`,
      `{"type":"x","data":{"state":"SUCCEEDED","Output":${VALUE}}}`,
    ]) {
      const { id, callback } = await newJob();
      expect((await send("POST", callback, body)).status).toBe(200);
      await expectExactResult(id);
    }
  });

  it("in results by SQL, also those that are beyond every double", async () => {
    const { id } = await newJob();
    await database.query("select jobcast.complete_job($1, $2)", [id, VALUE]);
    await expectExactResult(id);
    const other = await newJob();
    await database.query("select jobcast.complete_job($1, '[1e400, -1e-400]')", [other.id]);
    const { text } = await send("GET", `/v1/jobs/${other.id}`);
    expect(text).toContain(`[1${"0".repeat(400)}, -0.${"0".repeat(399)}1]`);
  });

  it("or are refused where they are beyond every double", async () => {
    for (const number of ["1e400", "-1e309"]) {
      const { id, callback } = await newJob();
      const answers = [
        await send("POST", "/v1/jobs", `{"type":"t","params":[${number}]}`),
        await send("PATCH", `/v1/jobs/${id}`, `{"result":${number}}`),
        await send("POST", callback, `{"status":"completed","result":${number}}`),
      ];
      for (const { status, text } of answers) {
        expect([status, JSON.parse(text).code]).toEqual([400, "invalid_request"]);
      }
    }
  });

  it("or are refused before PostgreSQL would write them out, which a server has no room for", async () => {
    const { id, callback } = await newJob();
    for (const number of ["1e-16383", "0e-9999", "9.5E+300"]) {
      const many = `[${Array(100_000).fill(number)}]`;
      for (const [method, path, body] of [
        ["POST", "/v1/jobs", `{"type":"t","params":${many}}`],
        ["POST", "/v1/batches", `{"jobs":[{"type":"t","metadata":{"a":${many}}}]}`],
        ["PATCH", `/v1/jobs/${id}`, `{"result":${many}}`],
        ["PATCH", "/v1/jobs", `{"updates":[{"id":"${id}","result":${many}}]}`],
        ["POST", callback, `{"status":"completed","result":${many}}`],
      ] as const) {
        const { status, text } = await send(method, path, body);
        expect([path, status, JSON.parse(text).code]).toEqual([path, 413, "payload_too_large"]);
        expect(text).toContain("without exponents");
      }
    }
    // What only looks like one is text.
    const text = `"${"1e-16383,".repeat(10_000)}"`;
    expect((await send("PATCH", `/v1/jobs/${id}`, `{"result":${text}}`)).status).toBe(200);
  });

  it("and tell one request from another under the same key", async () => {
    const create = async (number: string) => {
      const response = await fetch(new URL("/v1/jobs", server.url), {
        method: "POST",
        headers: {
          authorization: `Bearer ${server.token()}`,
          "content-type": "application/json",
          "idempotency-key": "exact",
        },
        body: `{"params":{"seed":${number}},"type":"t"}`,
      });
      return response.status;
    };
    expect(await create("12345678901234567891")).toBe(201);
    expect(await create("12345678901234567891")).toBe(201);
    expect(await create("12345678901234567892")).toBe(422);
  });
});

describe("a body that is not UTF-8", () => {
  const json = '{"type":"t","title":"käse"}';
  const utf16 = Buffer.from(json, "utf16le");
  const utf32 = Buffer.concat(
    Array.from(json, (char) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(char.codePointAt(0) ?? 0);
      return bytes;
    }),
  );
  const invalid = [
    ["Latin-1", Buffer.from(json, "latin1")],
    ["UTF-16 without a word", utf16],
    ["UTF-16 with its mark", Buffer.concat([Buffer.from([0xff, 0xfe]), utf16])],
    ["UTF-32", utf32],
    [
      "a surrogate of its own",
      Buffer.from([...Buffer.from('{"type":"'), 0xed, 0xa0, 0x80, 0x22, 0x7d]),
    ],
    ["an overlong slash", Buffer.from([...Buffer.from('{"type":"'), 0xc0, 0xaf, 0x22, 0x7d])],
    ["half a character at the end", Buffer.from([...Buffer.from('{"type":"t'), 0xc3])],
  ] as const;

  it.each(invalid)("%s is refused as no JSON, whoever takes it", async (_, bytes) => {
    const { id, callback } = await newJob();
    for (const [method, path] of [
      ["POST", "/v1/jobs"],
      ["POST", "/v1/batches"],
      ["PATCH", `/v1/jobs/${id}`],
      ["PATCH", "/v1/jobs"],
      ["POST", `/v1/jobs/${id}/cancel`],
      ["POST", "/v1/credits/grants"],
      ["POST", "/v1/stream-tokens"],
      ["POST", callback],
    ] as const) {
      const { status, text } = await send(method, path, bytes);
      expect([path, status, JSON.parse(text).code]).toEqual([path, 400, "invalid_json"]);
    }
  });

  it.each(["utf-7", "utf-16", "utf-16le", "UTF-32", '"utf-16"'])(
    "is one that says that it is in %s",
    async (charset) => {
      const type = `application/json; charset=${charset}`;
      const { status, text } = await send("POST", "/v1/jobs", '{"type":"t"}', type);
      expect([status, JSON.parse(text).code]).toEqual([400, "invalid_json"]);
    },
  );

  it("is not one with a byte order mark, or that says what it is", async () => {
    const marked = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(json)]);
    const { status, text } = await send("POST", "/v1/jobs", marked);
    expect([status, JSON.parse(text).title]).toEqual([201, "käse"]);
    const type = "application/json; charset=UTF-8";
    expect((await send("POST", "/v1/jobs", json, type)).status).toBe(201);
  });
});

describe("a character that PostgreSQL cannot keep", () => {
  const bad = ["\\u0000", "\\ud800", "\\udc00", "\\udfff\\ud800"];
  const member = (char: string) => `{"a${char}b":["c${char}d"],"pair":"\\ud83e\\uded6"}`;

  it.each(bad)("is replaced in what ends a job: %s", async (char) => {
    const [one, many] = [await newJob(), await newJob()];
    const end = `"status":"completed","message":"m${char}","result":${member(char)}`;
    expect((await send("PATCH", `/v1/jobs/${one.id}`, `{${end}}`)).status).toBe(200);
    const bulk = await send("PATCH", "/v1/jobs", `{"updates":[{"id":"${many.id}",${end}}]}`);
    expect(JSON.parse(bulk.text).results[0].ok).toBe(true);
    const failing = await newJob();
    const error = `{"status":"failed","error":{"code":"x${char}","message":"y${char}"}}`;
    expect((await send("PATCH", `/v1/jobs/${failing.id}`, error)).status).toBe(200);
    const replaced = "\ufffd".repeat(char.length / 6);
    for (const { id } of [one, many]) {
      const job = JSON.parse((await send("GET", `/v1/jobs/${id}`)).text);
      expect(job).toMatchObject({ status: "completed", message: `m${replaced}` });
      expect(job.result).toEqual({ [`a${replaced}b`]: [`c${replaced}d`], pair: "🫖" });
    }
    const failed = JSON.parse((await send("GET", `/v1/jobs/${failing.id}`)).text);
    expect(failed.error).toEqual({ code: `x${replaced}`, message: `y${replaced}` });
  });

  it.each(bad)("is refused in whatever may be said again: %s", async (char) => {
    const { id } = await newJob();
    for (const [method, path, body] of [
      ["POST", "/v1/jobs", `{"type":"t","params":${member(char)}}`],
      ["POST", "/v1/jobs", `{"type":"t${char}"}`],
      ["PATCH", `/v1/jobs/${id}`, `{"message":"m${char}"}`],
      ["PATCH", `/v1/jobs/${id}`, `{"result":${member(char)}}`],
      ["POST", "/v1/batches", `{"jobs":[{"type":"t","params":${member(char)}}]}`],
    ] as const) {
      const { status, text } = await send(method, path, body);
      expect([status, JSON.parse(text).code]).toEqual([400, "invalid_request"]);
    }
  });
});
