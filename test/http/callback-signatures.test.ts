import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  signedHeadOf,
  signerOf,
  TOLERANCE_SECONDS,
  toWebhookKey,
} from "../../src/http/callbacks/webhook-signature.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { rawRequest } from "../support/raw-request.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { deliver, signatureHeaders } from "./provider.ts";

const OLD = Buffer.alloc(24, 1).toString("base64");
const NEW = Buffer.alloc(64, 2).toString("base64");
const FOREIGN = Buffer.alloc(32, 3).toString("base64");

let database: TestDatabase;
let server: TestServer;
beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({
    databaseUrl: database.url,
    callbackSecrets: [`whsec_${OLD}`, `whsec_${NEW}`],
  });
});
afterAll(async () => {
  await server.stop();
  await database.drop();
});

async function createJob(): Promise<string> {
  return (await server.call("POST", "/v1/jobs", { type: "image" })).body.id;
}

let deliveries = 0;
const newId = () => `msg_${++deliveries}`;

/** Signs with the new secret unless the test says otherwise, and sends. */
function send(jobId: string, event: object | string, signing: Partial<SigningOf> = {}) {
  const body = typeof event === "string" ? event : JSON.stringify(event);
  const headers = signatureHeaders({ id: newId(), secrets: [NEW], ...signing, body });
  return deliver(server, `/v1/callbacks/${jobId}`, body, headers);
}
type SigningOf = Parameters<typeof signatureHeaders>[0];

describe("a signature", () => {
  it("of the standard's own example is valid", () => {
    const headers = {
      "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "webhook-timestamp": "1614265330",
      "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    };
    const keys = [toWebhookKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    const sent = signedHeadOf(headers, 1_614_265_330_000);
    if (!sent) throw new Error("it was not taken for signed");
    expect(signerOf(keys, sent, Buffer.from('{"test": 2432232314}'))).toBe(keys[0]);
    expect(signerOf(keys, sent, Buffer.from('{"test":2432232314}'))).toBeUndefined();
  });

  it("of the standard's own library is valid", async () => {
    const id = await createJob();
    const body = JSON.stringify({ status: "processing", message: "ünïcödé 🫖" });
    const headers = {
      "webhook-id": newId(),
      "webhook-timestamp": String(Math.floor(Date.now() / 1000)),
    };
    const signature = new Webhook(`whsec_${OLD}`).sign(headers["webhook-id"], new Date(), body);
    const { body: result } = await deliver(server, `/v1/callbacks/${id}`, body, {
      ...headers,
      "webhook-signature": signature,
    });
    expect(result).toMatchObject({ jobId: id, status: "processing", applied: true });
  });

  it("is of the bytes, whatever blanks and escapes they have", async () => {
    const id = await createJob();
    const bodies = [
      ' {\n\t"progress" : 1.0e1 ,"message":"\\u00fc \\ud83e\\uded6" }\r\n',
      '{"progress":20,"message":"ünïcödé 🫖 \u2028","a":"\\/"}',
      '\ufeff{"progress":30}',
    ];
    for (const body of bodies) expect((await send(id, body)).body).toMatchObject({ applied: true });
    const headers = signatureHeaders({ id: newId(), secrets: [NEW], body: bodies[0] ?? "" });
    const again = JSON.stringify(JSON.parse(bodies[0] ?? ""));
    expect((await deliver(server, `/v1/callbacks/${id}`, again, headers)).status).toBe(401);
  });

  it("may be of the old secret and of the new while they rotate, one of several being enough", async () => {
    const id = await createJob();
    for (const [index, secrets] of [[OLD], [NEW], [FOREIGN, NEW], [OLD, FOREIGN]].entries()) {
      const { body } = await send(id, { progress: index + 1 }, { secrets });
      expect(body).toMatchObject({ applied: true });
    }
  });

  it("that is of another key, version, length, time, id or body is a 401, like none", async () => {
    const id = await createJob();
    const body = JSON.stringify({ status: "completed" });
    const good = signatureHeaders({ id: "msg_good", body, secrets: [NEW] });
    const signature = good["webhook-signature"];
    const wrong: Record<string, string>[] = [
      {},
      signatureHeaders({ id: "msg_good", body, secrets: [FOREIGN] }),
      signatureHeaders({ id: "msg_good", body, secrets: [] }),
      signatureHeaders({ id: "msg_good", body: `${body} `, secrets: [NEW] }),
      signatureHeaders({ id: "msg.good", body, secrets: [NEW] }),
      { ...good, "webhook-id": "msg_other" },
      { ...good, "webhook-timestamp": String(Number(good["webhook-timestamp"]) + 1) },
      { ...good, "webhook-timestamp": "now" },
      { ...good, "webhook-signature": signature.replace("v1,", "v2,") },
      { ...good, "webhook-signature": signature.replace("v1,", "v1a,") },
      { ...good, "webhook-signature": signature.replace("v1,", "") },
      { ...good, "webhook-signature": signature.slice(0, -1) },
      { ...good, "webhook-signature": `${signature}=` },
      { ...good, "webhook-signature": "v1" },
      { ...good, "webhook-signature": "v1," },
      { "webhook-id": "msg_good", "webhook-signature": signature },
    ];
    const answers = await Promise.all(
      wrong.map((headers) => deliver(server, `/v1/callbacks/${id}`, body, headers)),
    );
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    expect(answers[0]).toMatchObject({ status: 401, body: { code: "unauthenticated" } });
    expect((await deliver(server, `/v1/callbacks/${id}`, body, good)).status).toBe(200);
  });

  it("is good for five minutes in either direction, and not for a second more", () => {
    const body = Buffer.from("{}");
    const at = 1_700_000_000_000;
    const key = toWebhookKey(`whsec_${NEW}`);
    const isGoodAt = (seconds: number) => {
      const headers = signatureHeaders({ id: "m", body: "{}", secrets: [NEW], at });
      const head = signedHeadOf(headers, at + seconds * 1000);
      return head !== undefined && signerOf([key], head, body) === key;
    };
    expect(TOLERANCE_SECONDS).toBe(300);
    expect([-300, 0, 300, 300.9].map(isGoodAt)).toEqual([true, true, true, true]);
    expect([-301, 301, 4 * 24 * 3600].map(isGoodAt)).toEqual([false, false, false]);
  });

  it("counts for nothing where no secret was configured", async () => {
    const plain = await startTestServer({ databaseUrl: database.url });
    const id = await createJob();
    const body = JSON.stringify({ progress: 1 });
    const headers = signatureHeaders({ id: newId(), body, secrets: [NEW] });
    const { status } = await deliver(plain, `/v1/callbacks/${id}`, body, headers);
    await plain.stop();
    expect(status).toBe(401);
  });

  it("needs a secret of 24 to 64 bytes: an empty one would be everybody's", () => {
    for (const secret of ["", "whsec_", OLD, `whsec_${Buffer.alloc(23).toString("base64")}`]) {
      expect(() => toWebhookKey(secret)).toThrow(TypeError);
    }
  });
});

describe("a signed delivery", () => {
  it("has one effect, however often one webhook-id comes at once, and every answer is a 2xx", async () => {
    const id = await createJob();
    const signing = { id: newId() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        send(id, { status: "processing", progress: 10, message: `copy ${index}` }, signing),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
    expect(answers.filter(({ body }) => body.applied)).toHaveLength(1);
    expect(answers.filter(({ body }) => body.reason === "duplicate")).toHaveLength(19);
    expect((await server.call("GET", `/v1/jobs/${id}`)).body.version).toBe(2);
  });

  it("does not get in the way of others for the same job", async () => {
    const id = await createJob();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => send(id, { message: `number ${index}` })),
    );
    expect(answers.map(({ status, body }) => [status, body.applied])).toEqual(
      Array(20).fill([200, true]),
    );
  });

  it("that comes again after a retry, or four days later with a new timestamp, changes nothing", async () => {
    const id = await createJob();
    const signing = { id: newId() };
    const failure = { status: "failed", error: "no memory" };
    expect((await send(id, failure, signing)).body).toMatchObject({ applied: true });
    await server.call("POST", `/v1/jobs/${id}/retry`);
    const duplicate = { status: "pending", version: 3, applied: false, reason: "duplicate" };
    expect((await send(id, failure, signing)).body).toMatchObject(duplicate);
    await database.query(
      "update jobcast.webhook_deliveries set received_at = received_at - interval '4 days'",
    );
    expect((await send(id, failure, signing)).body).toMatchObject(duplicate);
  });

  it("is for one job: the same bytes sent to another owner's change nothing there", async () => {
    const own = await createJob();
    const other = await server.call("POST", "/v1/jobs", { type: "image", ownerId: "bob" });
    const body = JSON.stringify({ status: "completed", result: { url: "https://x.example" } });
    const headers = signatureHeaders({ id: newId(), secrets: [NEW], body });
    const first = await deliver(server, `/v1/callbacks/${own}`, body, headers);
    expect(first.body).toMatchObject({ jobId: own, applied: true });
    const replayed = await deliver(server, `/v1/callbacks/${other.body.id}`, body, headers);
    expect(replayed.status).toBe(200);
    expect(replayed.body).toMatchObject({ applied: false, reason: "duplicate", version: 1 });
    expect((await server.call("GET", `/v1/jobs/${other.body.id}`)).body.status).toBe("pending");
  });

  it("is for one job, however many are told of it at once", async () => {
    const jobs = await Promise.all(Array.from({ length: 8 }, createJob));
    const body = JSON.stringify({ status: "completed" });
    const headers = signatureHeaders({ id: newId(), secrets: [NEW], body });
    const answers = await Promise.all(
      jobs.map((id) => deliver(server, `/v1/callbacks/${id}`, body, headers)),
    );
    expect(answers.map(({ status }) => status)).toEqual(jobs.map(() => 200));
    expect(answers.filter((answer) => answer.body.applied)).toHaveLength(1);
    expect(answers.filter((answer) => answer.body.reason === "duplicate")).toHaveLength(7);
  });

  it("is for one attempt: what was said of the first does not end the second", async () => {
    const id = await createJob();
    await server.call("POST", `/v1/jobs/${id}/cancel`);
    const retried = (await server.call("POST", `/v1/jobs/${id}/retry`)).body;
    const late = { status: "completed", result: { of: "attempt 1" } };
    const { body } = await send(id, late);
    expect(body).toMatchObject({ applied: false, reason: "other_attempt", status: "pending" });

    // Its own URL has the attempt in its token, also when that has expired, or says it in plain.
    const signing = { id: newId(), secrets: [NEW] };
    const said = JSON.stringify({ progress: 10 });
    const old = retried.links.callback.replace(/\.[\w-]{43}$/, `.${"A".repeat(43)}`);
    const headers = signatureHeaders({ ...signing, body: said });
    // A token that nobody signed says nothing about the attempt.
    expect((await deliver(server, old, said, headers)).body.reason).toBe("other_attempt");
    const byToken = await deliver(server, retried.links.callback, said, headers);
    expect(byToken.body).toMatchObject({ applied: true, version: retried.version + 1 });
    const end = JSON.stringify({ status: "completed", result: { of: "attempt 2" } });
    const byQuery = await deliver(
      server,
      `/v1/callbacks/${id}?attempt=2`,
      end,
      signatureHeaders({ id: newId(), secrets: [NEW], body: end }),
    );
    expect(byQuery.body).toMatchObject({ applied: true, status: "completed" });
    expect((await server.call("GET", `/v1/jobs/${id}`)).body.result).toEqual({ of: "attempt 2" });
  });

  it("that was for another attempt may still come to the one that it is for", async () => {
    const id = await createJob();
    const body = JSON.stringify({ status: "completed" });
    const headers = signatureHeaders({ id: newId(), secrets: [NEW], body });
    const early = await deliver(server, `/v1/callbacks/${id}?attempt=2`, body, headers);
    expect(early.body).toMatchObject({ applied: false, reason: "other_attempt" });
    await server.call("POST", `/v1/jobs/${id}/cancel`);
    await server.call("POST", `/v1/jobs/${id}/retry`);
    const again = await deliver(server, `/v1/callbacks/${id}?attempt=2`, body, headers);
    expect(again.body).toMatchObject({ applied: true, status: "completed" });
  });

  it.each(["0", "-1", "two", "", "1.5", "99999999999"])("has no attempt %j", async (attempt) => {
    const id = await createJob();
    const body = JSON.stringify({ progress: 1 });
    const headers = signatureHeaders({ id: newId(), secrets: [NEW], body });
    const url = `/v1/callbacks/${id}?attempt=${attempt}`;
    const { status, body: problem } = await deliver(server, url, body, headers);
    expect([status, problem.code]).toEqual([400, "invalid_request"]);
    expect(problem.fields?.map(({ path }) => path)).toEqual(["query.attempt"]);
  });

  it("that is stale is refused before its body is read", async () => {
    const id = await createJob();
    const stale = signatureHeaders({ id: newId(), secrets: [NEW], body: "{}", at: 0 });
    const head = Object.entries(stale).map(([name, value]) => `${name}: ${value}\r\n`);
    // Of the body nothing ever comes.
    const { text } = await rawRequest(
      server.port,
      `POST /v1/callbacks/${id} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n${head.join("")}\r\n`,
      { isComplete: (received) => received.includes("\r\n\r\n") },
    );
    expect(text).toMatch(/^HTTP\/1\.1 401 /);
  });

  it("is told from one of another job that has the same webhook-id of another provider", async () => {
    const [first, second] = [await createJob(), await createJob()];
    const id = newId();
    await send(first, { status: "completed" }, { id, secrets: [OLD] });
    const { body } = await send(second, { status: "completed" }, { id, secrets: [NEW] });
    expect(body).toMatchObject({ jobId: second, status: "completed", applied: true });
  });

  it("needs no token, and outlives the one in its URL", async () => {
    const id = await createJob();
    const body = JSON.stringify({ status: "completed" });
    const headers = signatureHeaders({ id: newId(), body, secrets: [NEW] });
    const url = `/v1/callbacks/${id}?token=1.expired.${"A".repeat(43)}`;
    expect((await deliver(server, url, body, headers)).body).toMatchObject({ applied: true });
  });

  it("for a job that does not exist, or for what is no id, is a 404", async () => {
    for (const id of ["00000000-0000-7000-8000-000000000000", "no-id"]) {
      const { status, body } = await send(id, { status: "completed" });
      expect([status, body.code]).toEqual([404, "not_found"]);
    }
  });
});
