import { describe, expect, it } from "vitest";
import { locksOf } from "../../src/db/migration-locks.ts";
import { loadMigrations } from "../../src/db/migrations.ts";

describe("what a migration locks", () => {
  it("is taken in the order of the writers, as strongly as it will be needed", () => {
    const sql = `
create index webhook_deliveries_x on jobcast.webhook_deliveries (x);
create trigger a before update on jobcast.status_history
  for each row execute function jobcast.f();
create unique index jobs_x
  on jobcast.jobs (x);
ALTER TABLE jobcast.jobs add column x int;
create table jobcast.y (id uuid references jobcast.batches (id));
comment on table jobcast.signing_keys is 'alter table jobcast.nothing';
`;
    expect(locksOf(sql)).toEqual([
      { table: "jobs", mode: "access exclusive" },
      { table: "status_history", mode: "share row exclusive" },
      { table: "batches", mode: "share row exclusive" },
      { table: "webhook_deliveries", mode: "share" },
    ]);
  });

  it("is found in the shipped ones, and no table of a function's body", async () => {
    const tables = Object.fromEntries(
      (await loadMigrations()).map(({ name, sql }) => [
        name,
        locksOf(sql).map(({ table }) => table),
      ]),
    );
    expect(tables["000016_retention.sql"]).toEqual([
      ...["jobs", "batches", "webhook_deliveries", "retention"],
    ]);
    expect(tables["000019_free_jobs.sql"]).toEqual([]);
    expect(tables["000020_additive.sql"]).toEqual(["migrations"]);
  });
});
