import { setTimeout as delay } from "node:timers/promises";
import { readPlace } from "../db/epoch.ts";
import type { Query } from "../db/query.ts";

/** What is read and what is listened to are different databases: nobody would be told anything. */
export class SplitError extends Error {
  override readonly name = "SplitError";

  constructor({ databaseUrl, listenDatabaseUrl }: Urls) {
    const named =
      listenDatabaseUrl === databaseUrl
        ? `DATABASE_URL (${nameOf(databaseUrl)}) leads to different databases at once`
        : `DATABASE_URL (${nameOf(databaseUrl)}) and LISTEN_DATABASE_URL (${nameOf(listenDatabaseUrl)}) ` +
          "lead to different databases";
    super(`${named}: both the requests and the listener must come to the same one.`);
  }
}

export type Urls = { readonly databaseUrl: string; readonly listenDatabaseUrl: string };

/** Who has no answer in this time is asked again with the next reconciliation. */
const ANSWER_MS = 2_000;

/**
 * @param own where the feed reads
 * @param query of the connections that requests use; when it is not answered nothing is known
 * @throws {SplitError}
 */
export async function assertSamePlace(own: string, query: Query, urls: Urls): Promise<void> {
  const others = await Promise.race([
    readPlace(query).catch(() => undefined), // lanes tell by themselves that they have no answer
    delay(ANSWER_MS, undefined, { ref: false }),
  ]);
  if (others !== undefined && others !== own) throw new SplitError(urls);
}

/** Without user and password: it goes into logs. What only the driver can read is not shown. */
function nameOf(url: string): string {
  if (!URL.canParse(url)) return "a URL without a host";
  const { host, pathname } = new URL(url);
  return host + pathname;
}
