import type { LaneState } from "../db/lane.ts";
import type { RetentionState } from "../db/retention.ts";
import type { ListenerState } from "../feed/listener.ts";
import type { Statistics } from "../protocol/statistics.ts";
import type { StreamStatistics } from "../stream/registry.ts";

/** How many owners are named: the answer must not grow with the number of users. */
const MAX_OWNERS = 100;

/** Where the figures of this process come from; each is read when it is asked for. */
export type StatisticsSource = {
  streams(): StreamStatistics;
  subscriptions(): { topics: number; subscribers: number };
  listener(): ListenerState;
  /** Changes that the feed has read since the process began. */
  changes(): number;
  /** The connections, by what they are for. */
  lanes(): Readonly<Record<string, LaneState>>;
  /** Bytes that wait for clients. */
  unsentBytes(): number;
  retention(): RetentionState;
};

/** The figures as `GET /v1/stats` tells them. */
export function readStatistics(source: StatisticsSource): Statistics {
  const { open, openByOwner, opened, refused, cut, delivered, replayed } = source.streams();
  const { feed, ...listener } = source.listener();
  return {
    streams: {
      total: open.sse + open["long-poll"],
      byTransport: { sse: open.sse, longPoll: open["long-poll"] },
      byOwner: Object.entries(openByOwner)
        .map(([ownerId, streams]) => ({ ownerId, streams }))
        .sort((one, other) => other.streams - one.streams)
        .slice(0, MAX_OWNERS),
      opened,
      refused,
      cut,
    },
    subscriptions: source.subscriptions(),
    listener: { ...listener, state: feed, changes: source.changes() },
    events: { delivered, replayed, unsentBytes: source.unsentBytes() },
    database: source.lanes(),
    retention: source.retention(),
    process: { uptimeSeconds: process.uptime(), rssBytes: process.memoryUsage.rss() },
  };
}
