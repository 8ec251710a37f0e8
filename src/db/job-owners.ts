import type { Database } from "./database.ts";

/** The owners of those jobs that exist, by the job's id. */
export function createOwnerReader(db: Database) {
  return async (ids: readonly string[]): Promise<ReadonlyMap<string, string>> => {
    const rows = await db
      .selectFrom("jobcast.jobs")
      .select(["id", "owner_id"])
      .where("id", "in", ids)
      .execute();
    return new Map(rows.map(({ id, owner_id }) => [id, owner_id]));
  };
}
