import type { News } from "../change/change.ts";
import { keyOf, readFirstGroup } from "./change-values.ts";
import { type ChangeRow, isWhole, toChange, toNews } from "./changes.ts";
import type { Query } from "./query.ts";

/** Of one read of the feed, however long, what is read for all of its readers together. */
const SHARED_BYTES = 4 * 1_024 * 1_024;

/** How long the feed waits for it. */
const SHARED_MS = 250;

export type NewsOptions = {
  /** Whether somebody watches: what nobody would be told is not read. */
  readonly isWatched: (news: News) => boolean;
  /** Reads the values of large rows. */
  readonly readValues: Query;
  /** They could not be read; who watches reads them by himself. */
  readonly onUnread: (error: unknown) => void;
};

type FirstGroup = Pick<Awaited<ReturnType<typeof readFirstGroup>>, "whole" | "bytes">;

/**
 * What the feed tells of its rows. The feed is one for everybody, so it waits for nobody's
 * megabytes: of large rows it reads the first few, if that is quickly done, and who watches more of
 * them reads them at his own pace.
 */
export class NewsTeller {
  readonly #options: NewsOptions;
  #left = 0;
  #isReading = false;

  constructor(options: NewsOptions) {
    this.#options = options;
  }

  /** A new read of the feed begins; its pages are told one after the other. */
  startRead(): void {
    this.#left = SHARED_BYTES;
  }

  async tell(rows: readonly ChangeRow[]): Promise<readonly News[]> {
    const large = rows.filter((row) => !isWhole(row) && this.#options.isWatched(toNews(row)));
    const read = new Map<string, ChangeRow>();
    for (const row of await this.#readInTime(large)) read.set(keyOf(row), row);
    return rows.map((row) => {
      const whole = isWhole(row) ? row : read.get(keyOf(row));
      return whole ? toChange(whole) : toNews(row);
    });
  }

  /** Nothing where it would take long, also because the one before still does. */
  async #readInTime(large: readonly ChangeRow[]): Promise<readonly ChangeRow[]> {
    if (large.length === 0 || this.#left <= 0 || this.#isReading) return [];
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<FirstGroup>((resolve) => {
      timer = setTimeout(resolve, SHARED_MS, { whole: [], bytes: SHARED_BYTES });
    });
    try {
      const { whole, bytes } = await Promise.race([this.#read(large), late]);
      this.#left -= bytes;
      return whole;
    } finally {
      clearTimeout(timer);
    }
  }

  async #read(large: readonly ChangeRow[]): Promise<FirstGroup> {
    const { readValues, onUnread } = this.#options;
    this.#isReading = true;
    try {
      return await readFirstGroup(large, readValues, this.#left);
    } catch (error) {
      onUnread(error);
      return { whole: [], bytes: 0 };
    } finally {
      this.#isReading = false;
    }
  }
}
