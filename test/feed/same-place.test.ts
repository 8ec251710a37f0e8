import { expect, it } from "vitest";
import { SplitError } from "../../src/feed/same-place.ts";

it("names databases without their secrets, also where only the driver reads the URL", () => {
  const databaseUrl = "postgres://app:hunter2@db.example:6432/jobs";
  const listenDatabaseUrl = "postgres://app:hunter2@/jobs?host=/run/postgresql";
  const { message } = new SplitError({ databaseUrl, listenDatabaseUrl });
  expect(message).toContain("DATABASE_URL (db.example:6432/jobs)");
  expect(message).toContain("LISTEN_DATABASE_URL (a URL without a host)");
  expect(message).not.toContain("hunter2");
  expect(new SplitError({ databaseUrl, listenDatabaseUrl: databaseUrl }).message).toContain(
    "at once",
  );
});
