import type { EventLog } from "./calm-log.ts";
import type { Lanes } from "./db/lanes.ts";
import type { Listener } from "./feed/listener.ts";
import type { Readiness } from "./http/parts.ts";

export type Phase = "new" | "started" | "draining" | "stopped";

/** How often it is looked for the log; who asks `/readyz` is told of that very moment. */
const LOOK_MS = 1_000;

/** Whether the process should be sent requests, and why not. */
export function readinessOf(phase: Phase, listener: Listener, lanes: Lanes): Readiness {
  const { isHealthy, trouble, ...listening } = listener.state();
  const away = Object.entries(lanes.state()).filter(([, lane]) => !lane.isHealthy);
  const database = away.length === 0;
  const why = [
    ...(phase === "started" ? [] : [`it is ${phase}`]),
    ...away.map(([name, lane]) => `no answer for ${name}: ${lane.trouble ?? "none in time"}`),
    ...(trouble === null ? [] : [`the feed has no session: ${trouble}`]),
    ...(listening.bell === false ? ["the bell was not heard"] : []),
    ...(isHealthy || trouble !== null || listening.bell === false
      ? []
      : ["nothing was read lately"]),
  ];
  const ready = phase === "started" && isHealthy && database;
  return { ready, phase, database, ...listening, ...(!ready && { why }) };
}

/**
 * Writes one line when a process stops being ready, and one when it is again.
 * @returns ends that
 */
export function logReadiness(read: () => Readiness, log: EventLog): () => void {
  let since: number | undefined;
  const timer = setInterval(() => {
    const { ready, why } = read();
    if (!ready && since === undefined) {
      since = performance.now();
      log.warn({ why }, "not ready");
    } else if (ready && since !== undefined) {
      log.info({ seconds: Math.round((performance.now() - since) / 1_000) }, "ready again");
      since = undefined;
    }
  }, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
