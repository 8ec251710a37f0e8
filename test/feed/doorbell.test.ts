import { afterEach, beforeEach, expect, it } from "vitest";
import { CHANNEL, createDoorbell, type Doorbell } from "../../src/feed/doorbell.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { until, within } from "../support/deadline.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { backendsOf } from "./listener.ts";

let db: TestDatabase;
let doorbell: Doorbell;
let warnings: string[];
let attempts: unknown[];
let changes: boolean[];

beforeEach(async () => {
  db = await createTestDatabase();
  warnings = [];
  attempts = [];
  changes = [];
});

afterEach(async () => {
  await doorbell.stop();
  await db.drop();
});

const send = async (payload: string): Promise<void> => {
  await db.query("select pg_notify($1, $2)", [CHANNEL, payload]);
};

function create(
  ring: (payload: string) => Promise<void>,
  onRing: () => void,
  connectionString = db.url,
): void {
  doorbell = createDoorbell({
    connectionString,
    ring,
    onRing,
    onChange: (isListening) => changes.push(isListening),
    log: {
      warn(details, message) {
        warnings.push(message);
        if ("attempt" in details) attempts.push(details.attempt);
      },
    },
  });
}

it("keeps a connection that hears although it cannot be tested", async () => {
  let refusals = 2;
  let rings = 0;
  create(
    async (payload) => {
      refusals -= 1;
      if (refusals >= 0) throw new Error("sorry, too many clients already");
      await send(payload);
    },
    () => {
      rings += 1;
    },
  );
  doorbell.start();
  await until(() => warnings.length > 0, 5_000, "the first refusal");
  const [backend] = await backendsOf(db, "doorbell");
  expect(doorbell.isListening).toBe(false);
  await send("somebody");
  await until(() => rings === 1, 5_000, "a ring by somebody else");

  await until(() => doorbell.isListening, 5_000, "its own ring");
  expect(await backendsOf(db, "doorbell")).toEqual([backend]);
  expect(warnings).toEqual(Array(2).fill("the doorbell could not be tested"));
  expect(changes).toEqual([true]);
  expect(rings).toBe(1);
});

it("is patient with what fails again and again, and not with what worked meanwhile", async () => {
  const url = new URL(db.url);
  const proxy = await startTcpProxy(Number(url.port));
  url.port = String(proxy.port);
  create(send, () => undefined, url.href);
  proxy.refuse();
  doorbell.start();
  await until(() => attempts.length === 3, 10_000, "three attempts");
  await proxy.accept();
  await until(() => doorbell.isListening, 20_000, "it to listen");
  const failures = attempts.length;
  proxy.cut();
  await until(() => attempts.length > failures, 10_000, "the loss");
  expect(attempts).toEqual([...Array.from({ length: failures }, (_, index) => index), 0]);
  await doorbell.stop();
  await proxy.close();
});

it("notices the loss of its connection while its own ring is on its way", async () => {
  let isSending = false;
  create(
    () => {
      isSending = true;
      return new Promise<void>(() => undefined); // as a pool does that has no place for long
    },
    () => undefined,
  );
  doorbell.start();
  await until(() => isSending, 5_000, "its own ring");
  const [backend] = await backendsOf(db, "doorbell");
  await db.query("select pg_terminate_backend($1)", [backend]);
  await until(
    async () => (await backendsOf(db, "doorbell")).some((pid) => pid !== backend),
    2_000,
    "another connection",
  );
  await within(doorbell.stop(), 1_000, "the stop");
  await until(async () => (await backendsOf(db, "doorbell")).length === 0, 2_000, "its end");
});

it("may be stopped before it was started, and twice", async () => {
  create(send, () => undefined);
  await doorbell.stop();
  doorbell.start();
  await doorbell.stop();
  expect(changes).toEqual([]);
});
