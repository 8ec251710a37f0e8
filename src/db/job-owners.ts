import type { Lane } from "./lane.ts";

/** The owners of those jobs that exist, by the job's id. */
export type FindOwners = (
  ids: readonly string[],
  by: string,
) => Promise<ReadonlyMap<string, string>>;

export function createOwnerReader(lane: Lane): FindOwners {
  return async (ids, by) => {
    const rows = await lane.for({ owner: by })<{ id: string; owner_id: string }>(
      "select id, owner_id from jobcast.jobs where id = any ($1::uuid[])",
      [ids],
    );
    return new Map(rows.map(({ id, owner_id }) => [id, owner_id]));
  };
}
