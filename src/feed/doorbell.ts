import { setTimeout as delay } from "node:timers/promises";
import { DatabaseClient } from "../db/client.ts";
import { backoff } from "./backoff.ts";
import { Probe } from "./probe.ts";

export const CHANNEL = "jobcast";

/** How often the bell is tested. */
const PROBE_MS = 10_000;

/** How soon it is tested again when the ring could not even be sent. */
const UNSENT_MS = 1_000;

/** How long a connection is trusted that nobody could test. */
const UNPROVEN_MS = 30_000;

/** Where the listener tells what it survived. */
export type FeedLog = { warn(details: object, message: string): void };

export type Doorbell = {
  /** Whether our own ring was heard lately: not only connected, but really listening. */
  readonly isListening: boolean;
  start(): void;
  /** At once, whatever the connection is doing. */
  stop(): Promise<void>;
};

/**
 * Listens on the channel `jobcast` and keeps at it for ever.
 *
 * It never mends a connection: each one is new, and a ring of our own through another connection
 * proves that it hears. That finds a half-open one, and what LISTEN itself reports as success: a
 * pooler, a standby that was promoted.
 */
export function createDoorbell(options: {
  /** A direct connection: LISTEN does not pass a transaction pooler. */
  connectionString: string;
  /** Sends a notification with this payload on the channel, by another connection. */
  ring: (payload: string) => Promise<void>;
  onRing: () => void;
  onChange: (isListening: boolean) => void;
  log: FeedLog;
}): Doorbell {
  const { connectionString, log } = options;
  const stopping = new AbortController();
  let isListening = false;
  let attempt = 0;
  let running: Promise<void> | undefined;

  function setListening(value: boolean): void {
    if (value === isListening) return;
    isListening = value;
    options.onChange(value);
  }

  /** One connection, from its beginning to its end. */
  async function listen(): Promise<never> {
    const { signal } = stopping;
    const name = "jobcast doorbell";
    const client = new DatabaseClient({ connectionString, name, work: "feed", signal });
    const lost = new AbortController();
    const lose = (cause?: Error) =>
      lost.abort(new Error("the connection that listens was lost", { cause }));
    const probe = new Probe(options.ring);
    client.once("error", lose);
    client.once("end", () => lose());
    client.on("notification", ({ payload = "" }) => {
      if (!probe.take(payload)) options.onRing();
    });
    try {
      await client.connect();
      await client.prepare();
      await client.send(`listen ${CHANNEL}`);
      await keepProving(probe, lost.signal);
      throw lost.signal.reason;
    } finally {
      setListening(false);
      client.destroy();
    }
  }

  /** Rings and hears it, time after time, until the connection is lost. */
  async function keepProving(probe: Probe, lost: AbortSignal): Promise<void> {
    let provenAt = performance.now();
    while (!lost.aborted) {
      const { unsent } = await probe.send(lost);
      if (unsent === undefined) {
        provenAt = performance.now();
        attempt = 0;
        setListening(true);
      } else {
        log.warn({ err: unsent }, "the doorbell could not be tested");
        if (performance.now() - provenAt > UNPROVEN_MS) throw unsent;
      }
      const pause = unsent === undefined ? PROBE_MS : UNSENT_MS;
      await delay(pause, undefined, { signal: lost }).catch(() => undefined); // lost: stop waiting
    }
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await listen();
      } catch (error) {
        if (stopping.signal.aborted) return;
        log.warn({ err: error, attempt }, "the doorbell is deaf; listening again");
        await backoff(attempt++, stopping.signal);
      }
    }
  }

  return {
    get isListening() {
      return isListening;
    },
    start() {
      running ??= run();
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
