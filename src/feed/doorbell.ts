import { randomUUID } from "node:crypto";
import { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import pgListen from "pg-listen";
import { backoff } from "./backoff.ts";

export const CHANNEL = "jobcast";

/** How long LISTEN may take, and how long our own ring may be on its way. */
const ANSWER_MS = 5_000;

/** How often the bell is tested. */
const PROBE_MS = 10_000;

/** Where the listener tells what it survived. */
export type FeedLog = { warn(details: object, message: string): void };

export type Doorbell = {
  /** Whether our own ring was heard lately: not only connected, but really listening. */
  readonly isListening: boolean;
  start(): void;
  stop(): Promise<void>;
};

/**
 * Listens on the channel `jobcast` and keeps at it for ever.
 *
 * pg-listen hides three ways to go deaf (a reconnect that gives up, a re-LISTEN that fails, a
 * half-open connection) and leaves a ghost when it is closed while it reconnects. So it never
 * reconnects here: each connection is a fresh subscriber on a socket of ours, which can be
 * destroyed at once, and a ring of our own through another connection proves that it hears.
 * That also finds what LISTEN itself reports as success: a pooler, a standby that was promoted.
 *
 * @param ring sends a notification with this payload on the channel, by another connection
 */
export function createDoorbell(options: {
  config: pg.ClientConfig;
  ring: (payload: string) => Promise<void>;
  onRing: () => void;
  onChange: (isListening: boolean) => void;
  log: FeedLog;
}): Doorbell {
  const { config, log } = options;
  const stopping = new AbortController();
  let isListening = false;
  let running: Promise<void> | undefined;

  function setListening(value: boolean): void {
    if (value === isListening) return;
    isListening = value;
    options.onChange(value);
  }

  /** One connection, from its beginning to its end. */
  async function listen(): Promise<never> {
    const socket = new Socket();
    const probes = new Map<string, () => void>();
    const subscriber = pgListen.default(
      { ...config, stream: () => socket },
      {
        // Its loop runs while attempt < retryLimit and begins at 1: it never reconnects by itself.
        retryLimit: 1,
        paranoidChecking: false,
        parse: (payload) => payload,
      },
    );
    const failed = new Promise<never>((_, reject) => {
      subscriber.events.on("error", (error) => {
        setListening(false);
        reject(error);
      });
    });
    failed.catch(() => undefined); // awaited below, in each race
    subscriber.notifications.on(CHANNEL, (payload) => {
      const heard = probes.get(String(payload));
      if (heard) heard();
      else options.onRing();
    });
    try {
      await Promise.race([subscriber.connect(), failed]);
      await Promise.race([subscriber.listenTo(CHANNEL), failed]);
      for (;;) {
        await Promise.race([hearOwnRing(probes), failed]);
        setListening(true);
        attempt = 0;
        await Promise.race([delay(PROBE_MS, undefined, { signal: stopping.signal }), failed]);
      }
    } finally {
      setListening(false);
      socket.destroy();
    }
  }

  async function hearOwnRing(probes: Map<string, () => void>): Promise<void> {
    const token = randomUUID();
    const timer = new AbortController();
    try {
      const heard = new Promise<void>((resolve) => probes.set(token, resolve));
      const tooLate = delay(ANSWER_MS, undefined, { signal: timer.signal }).then(() => {
        throw new Error(
          `our own notification was not heard within ${ANSWER_MS} ms: LISTEN does not work through a transaction pooler or on a standby (set LISTEN_DATABASE_URL to a direct connection, or FEED=poll)`,
        );
      });
      tooLate.catch(() => undefined); // aborted when it was heard
      await Promise.race([options.ring(token), tooLate]);
      await Promise.race([heard, tooLate]);
    } finally {
      timer.abort();
      probes.delete(token);
    }
  }

  let attempt = 0;
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
