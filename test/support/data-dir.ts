import { rm } from "node:fs/promises";
import { findClusterHome } from "../../src/embedded/cluster-home.ts";

/**
 * Removes the data directory of an embedded PostgreSQL with its cluster, which lies elsewhere when
 * root's PostgreSQL could not get to it.
 */
export async function removeDataDir(dataDir: string): Promise<void> {
  // A link that is not ours leads to what is not ours to remove.
  const home = await findClusterHome(dataDir).catch(() => dataDir);
  for (const folder of [home, dataDir]) {
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
