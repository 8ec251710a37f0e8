import { readPlace } from "../db/epoch.ts";
import type { FeedSession } from "../db/feed-session.ts";
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

/**
 * @param query of the connections that requests use; when it cannot be asked nothing is known
 * @throws {SplitError}
 */
export async function assertSamePlace(
  session: FeedSession,
  query: Query,
  urls: Urls,
): Promise<void> {
  const [own, others] = await Promise.all([
    session.currentPlace(),
    readPlace(query).catch(() => undefined), // lanes tell by themselves that they have no answer
  ]);
  if (others !== undefined && others !== own) throw new SplitError(urls);
}

/** Without user and password: it goes into logs. */
function nameOf(url: string): string {
  const { host, pathname } = new URL(url);
  return host + pathname;
}
