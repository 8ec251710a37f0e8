import { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import pgListen from "pg-listen";
import { listenConfig } from "../db/client.ts";
import { backoff } from "./backoff.ts";
import { Probe } from "./probe.ts";

export const CHANNEL = "jobcast";

/** How long LISTEN may take. */
const ANSWER_MS = 5_000;

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
  /** Gives up its connection for a new one: the name may lead to another server by now. */
  renew(): void;
  /** At once, whatever the connection is doing. */
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
  let maySet = true;
  let running: Promise<void> | undefined;
  let connection: AbortController | undefined;

  function setListening(value: boolean): void {
    if (value === isListening) return;
    isListening = value;
    options.onChange(value);
  }

  /** One connection, from its beginning to its end. */
  async function listen(): Promise<never> {
    const socket = new Socket({ signal: stopping.signal });
    const lost = new AbortController();
    connection = lost;
    const probe = new Probe(options.ring);
    const subscriber = pgListen.default(
      {
        ...listenConfig(connectionString, maySet),
        query_timeout: ANSWER_MS,
        stream: () => socket,
      },
      {
        // Its loop runs while attempt < retryLimit and begins at 1: it never reconnects by itself.
        retryLimit: 1,
        // A query now and then, which a dead connection does not answer: hearing is no activity.
        paranoidChecking: PROBE_MS,
        parse: (payload) => payload,
      },
    );
    subscriber.events.on("error", (cause) =>
      lost.abort(new Error("the connection that listens was lost", { cause })),
    );
    subscriber.notifications.on(CHANNEL, (payload) => {
      if (!probe.take(String(payload))) options.onRing();
    });
    try {
      await subscriber.connect();
      await subscriber.listenTo(CHANNEL);
      await keepProving(probe, lost.signal);
      throw lost.signal.reason;
    } finally {
      setListening(false);
      socket.destroy();
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
        if (maySet && isAboutSettings(error)) {
          maySet = false;
          continue; // no reason to be deaf: a line about it would stand for the one that comes
        }
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
    renew() {
      connection?.abort(new Error("the connection that listens is made anew"));
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** [PgBouncer before 1.20, in session mode] takes no settings at the start of a session. */
function isAboutSettings(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /startup parameter/.test(error.message);
}
