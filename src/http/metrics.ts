import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { LaneState } from "../db/lane.ts";
import type { HttpParts } from "./parts.ts";
import type { StatisticsSource } from "./statistics.ts";

type Metric = {
  readonly type: "gauge" | "counter";
  /** Without the prefix `jobcast_`. */
  readonly name: string;
  readonly help: string;
  /** The label whose values are the keys of what is read. */
  readonly label?: string;
  readonly read: () => number | Readonly<Record<string, number>>;
};

/**
 * What `GET /metrics` tells Prometheus. Without a token, because scrapers seldom have one, and so
 * without a word about owners: keep it from the public at the proxy.
 */
export function createMetrics(source: StatisticsSource): HttpParts["metrics"] {
  // A registry of its own, because several of us may live in one process. It begins with the first
  // scrape: to watch the event loop costs a timer, for which somebody should be there to look.
  let registry: Registry | undefined;
  return async () => {
    registry ??= createRegistry(metricsOf(source));
    return { text: await registry.metrics(), contentType: registry.contentType };
  };
}

function metricsOf(source: StatisticsSource): Metric[] {
  const { streams, subscriptions, listener, changes, lanes, unsentBytes, retention } = source;
  const ofLanes = (read: (lane: LaneState) => number) => () =>
    Object.fromEntries(Object.entries(lanes()).map(([name, lane]) => [name, read(lane)]));
  return [
    {
      type: "gauge",
      name: "streams_open",
      help: "Streams that are open, and long polls that wait.",
      label: "transport",
      read: () => ({ sse: streams().open.sse, long_poll: streams().open["long-poll"] }),
    },
    {
      type: "counter",
      name: "streams_opened_total",
      help: "Streams and long polls that were let in.",
      read: () => streams().opened,
    },
    {
      type: "counter",
      name: "streams_refused_total",
      help: "Streams and long polls that were one too many.",
      read: () => streams().refused,
    },
    {
      type: "counter",
      name: "streams_cut_total",
      help: "Clients that left too much unread (slow), took nothing at all (stalled), or had held the most for the longest when all together left too much (memory).",
      label: "reason",
      read: () => streams().cut,
    },
    {
      type: "gauge",
      name: "subscription_topics",
      help: "Jobs, owners and batches that somebody watches.",
      read: () => subscriptions().topics,
    },
    {
      type: "counter",
      name: "events_delivered_total",
      help: "Events that clients were sent, on streams and as answers to long polls.",
      read: () => streams().delivered,
    },
    {
      type: "counter",
      name: "events_replayed_total",
      help: "Those of them that were read back for streams that began or came back.",
      read: () => streams().replayed,
    },
    {
      type: "counter",
      name: "feed_changes_total",
      help: "Changes that the listener has read, whoever watches them.",
      read: changes,
    },
    {
      type: "gauge",
      name: "listener_healthy",
      help: "1 while changes are read, and in time.",
      read: () => Number(listener().isHealthy),
    },
    {
      type: "gauge",
      name: "listener_asleep",
      help: "1 while the listener waits for the bell instead of reading on a timer.",
      read: () => Number(listener().feed === "asleep"),
    },
    {
      type: "gauge",
      name: "listener_last_read_age_seconds",
      help: "How long ago everything there was had been read; NaN before the first time.",
      read: () => (listener().lastReadAgoMs ?? Number.NaN) / 1_000,
    },
    {
      type: "gauge",
      name: "unsent_bytes",
      help: "Bytes that wait for clients who are slow to take them.",
      read: unsentBytes,
    },
    {
      type: "gauge",
      name: "database_healthy",
      help: "1 while the database answers on the connections of a lane.",
      label: "lane",
      read: ofLanes(({ isHealthy }) => Number(isHealthy)),
    },
    {
      type: "gauge",
      name: "database_statements_running",
      help: "Statements under way.",
      label: "lane",
      read: ofLanes(({ running }) => running),
    },
    {
      type: "gauge",
      name: "database_statements_waiting",
      help: "Statements that wait for their turn.",
      label: "lane",
      read: ofLanes(({ waiting }) => waiting),
    },
    {
      type: "counter",
      name: "retention_removed_total",
      help: "Rows that were old enough and that this process removed.",
      label: "kind",
      read: () => retention().removed,
    },
    {
      type: "gauge",
      name: "retention_sweep_age_seconds",
      help: "Since this process last looked after everything that is old.",
      read: () => (retention().sweptAgoMs ?? Number.NaN) / 1_000,
    },
  ];
}

function createRegistry(metrics: readonly Metric[]): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const { type, name, help, label, read } of metrics) {
    const options = {
      name: `jobcast_${name}`,
      help,
      labelNames: label === undefined ? [] : [label],
      registers: [registry],
    };
    if (type === "gauge") {
      const gauge: Gauge = new Gauge({
        ...options,
        collect: () => forEach(label, read(), (labels, value) => gauge.set(labels, value)),
      });
    } else {
      const counter: Counter = new Counter({
        ...options,
        collect() {
          // The count is kept elsewhere; here it is only shown.
          counter.reset();
          forEach(label, read(), (labels, value) => counter.inc(labels, value));
        },
      });
    }
  }
  return registry;
}

function forEach(
  label: string | undefined,
  reading: ReturnType<Metric["read"]>,
  show: (labels: Record<string, string>, value: number) => void,
): void {
  if (typeof reading === "number") show({}, reading);
  else for (const [key, value] of Object.entries(reading)) show({ [label ?? "key"]: key }, value);
}
