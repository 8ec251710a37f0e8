import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DatabaseClient } from "../../src/db/client.ts";
import { readEpoch } from "../../src/db/epoch.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer } from "../support/server.ts";
import { openStream } from "../support/stream-client.ts";

/** What Aurora refuses to everybody, and others to roles that are no administrators. */
const REFUSED = ["pg_current_wal_lsn()", "pg_control_system()", "pg_walfile_name(pg_lsn)"];

let db: TestDatabase;
beforeEach(async () => {
  db = await createTestDatabase();
});
afterEach(() => db.drop());

async function epochOf(url: string): Promise<string> {
  const client = new DatabaseClient({ connectionString: url, name: "jobcast test", work: "feed" });
  await client.connect();
  await client.prepare();
  const epoch = await readEpoch((text, values) => client.run(text, values));
  await client.end();
  return epoch;
}

async function refuse(): Promise<void> {
  for (const name of REFUSED) {
    await db.query(`revoke execute on function ${name} from public`);
  }
}

describe("a server that does not tell which cluster it is", () => {
  it("has an epoch all the same, the same for every session, and another in another database", async () => {
    const told = await epochOf(db.url);
    await refuse();
    const guessed = await epochOf(db.url);
    expect(guessed).not.toBe(told);
    expect(await epochOf(db.url)).toBe(guessed);
    const other = await createTestDatabase();
    expect(await epochOf(other.url)).not.toBe(told);
    await other.drop();
  });

  it("is started on, and streams go on after a restart of the service", async () => {
    await refuse();
    const first = await startTestServer({ databaseUrl: db.url });
    const { body } = await first.call("POST", "/v1/jobs", { type: "t" });
    const path = `/v1/events?jobs=${body.id}`;
    const stream = await openStream({ url: first.url, path, token: first.token() });
    await stream.next(({ type }) => type === "status");
    await first.stop();
    await stream.ended;
    await db.query("select jobcast.report_progress($1, 50)", [body.id]);
    const second = await startTestServer({ databaseUrl: db.url });
    const again = await openStream({
      url: second.url,
      path,
      token: second.token(),
      lastEventId: stream.lastEventId,
    });
    expect(await again.next()).toMatchObject({ type: "status" });
    expect(JSON.parse(again.events[0]?.data ?? "")).toMatchObject({ version: 2 });
    await again.close();
    await second.stop();
  });
});
