import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DatabaseClient } from "../../src/db/client.ts";
import { adviceOn } from "../../src/db/connection-advice.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

/** What a start says of a URL that leads nowhere, or not in. */
async function messageFor(change: (url: URL) => void): Promise<string> {
  const url = new URL(db.url);
  change(url);
  const client = new DatabaseClient({ connectionString: url.href, name: "test", work: "service" });
  try {
    await client.connect();
  } catch (error) {
    return (adviceOn(error) as Error).message;
  } finally {
    client.destroy();
  }
  return "no error";
}

describe("what to do about a database that cannot be used", () => {
  it.each<[string, (url: URL) => void, RegExp]>([
    [
      "no password",
      (url) => {
        url.password = "";
      },
      /The server asks for a password, and the URL has none\.$/,
    ],
    [
      "a wrong one",
      (url) => {
        url.password = "wrong";
      },
      /^password authentication failed .*must be percent-encoded\.$/,
    ],
    [
      "no such database",
      (url) => {
        url.pathname = "/nowhere";
      },
      /^database "nowhere" does not exist\. Create the database/,
    ],
    [
      "a server without TLS",
      (url) => {
        url.searchParams.set("sslmode", "verify-full");
      },
      /^The server does not support SSL connections\. Leave sslmode out/,
    ],
    [
      "nobody there",
      (url) => {
        url.port = "1";
      },
      /ECONNREFUSED.*\. Does it run there\?/,
    ],
  ])("is said of %s", async (_, change, message) => {
    expect(await messageFor(change)).toMatch(message);
  });

  it("leaves alone what it knows nothing about", () => {
    const error = new Error("something else");
    expect(adviceOn(error)).toBe(error);
  });
});
