import type { News } from "../protocol/event.ts";
import { keyOf, readFirstGroup } from "./change-values.ts";
import { type ChangeRow, isWhole, toChange, toNews } from "./changes.ts";
import type { Query } from "./query.ts";

/** Of one read of the feed, however long, what is read for all of its readers together. */
const SHARED_BYTES = 4 * 1_024 * 1_024;

export type NewsOptions = {
  /** Whether somebody watches: what nobody would be told is not read. */
  readonly isWatched: (news: News) => boolean;
  /** Reads the values of large rows. */
  readonly readValues: Query;
  /** They could not be read; who watches reads them by himself. */
  readonly onUnread: (error: unknown) => void;
};

/**
 * What one read of the feed tells of its pages. The feed is one for everybody, so it waits for
 * nobody's megabytes: of large rows it reads the first few, and who watches more of them reads them
 * at his own pace.
 */
export function newsTeller({ isWatched, readValues, onUnread }: NewsOptions) {
  let left = SHARED_BYTES;
  return async (rows: readonly ChangeRow[]): Promise<readonly News[]> => {
    const large = rows.filter((row) => !isWhole(row) && isWatched(toNews(row)));
    const read = new Map<string, ChangeRow>();
    if (large.length > 0 && left > 0) {
      try {
        const { whole, bytes } = await readFirstGroup(large, readValues, left);
        for (const row of whole) read.set(keyOf(row), row);
        left -= bytes;
      } catch (error) {
        onUnread(error);
      }
    }
    return rows.map((row) => {
      const whole = isWhole(row) ? row : read.get(keyOf(row));
      return whole ? toChange(whole) : toNews(row);
    });
  };
}
