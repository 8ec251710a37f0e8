import { Lane, type LaneState } from "./lane.ts";

export type LanesOptions = {
  readonly connectionString: string;
  /** Connections for requests and streams; our own work has two beside them. */
  readonly size: number;
  readonly onError: (error: Error) => void;
};

/** How often a lane that nobody uses is asked whether the database still answers. */
const PROBE_MS = 2_000;

/**
 * The connections of this process, by what they are for: what streams read, what requests read,
 * what requests write, and what the service does by itself. None can take another one's.
 */
export class Lanes {
  readonly streams: Lane;
  readonly reads: Lane;
  readonly writes: Lane;
  readonly service: Lane;
  #timer: NodeJS.Timeout | undefined;

  constructor({ connectionString, size, onError }: LanesOptions) {
    const quarter = Math.max(1, Math.floor(size / 4));
    const lane = (name: string, work: "read" | "write" | "service", places: number) =>
      new Lane({ connectionString, name: `jobcast ${name}`, work, size: places, onError });
    this.streams = lane("streams", "read", quarter);
    this.reads = lane("reads", "read", quarter);
    this.writes = lane("writes", "write", Math.max(1, size - 2 * quarter));
    this.service = lane("service", "service", 2);
  }

  /**
   * Keeps asking, so that `state` knows about lanes that nobody uses. Resolves when each has been
   * asked once.
   */
  async start(): Promise<void> {
    await Promise.all(this.#all().map((lane) => lane.probe(PROBE_MS)));
    this.#timer ??= setInterval(() => this.#probe(), PROBE_MS);
    this.#timer.unref();
  }

  /** By name, for health and metrics. */
  state(): Readonly<Record<"streams" | "reads" | "writes" | "service", LaneState>> {
    return {
      streams: this.streams.state(),
      reads: this.reads.state(),
      writes: this.writes.state(),
      service: this.service.state(),
    };
  }

  /** The database is another one by now, or may be: every connection is made anew. */
  renew(): void {
    for (const lane of this.#all()) lane.renew();
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#all().map((lane) => lane.end()));
  }

  #all(): Lane[] {
    return [this.streams, this.reads, this.writes, this.service];
  }

  #probe(): void {
    for (const lane of this.#all()) {
      // A failure is what `state` tells: the lane has not answered.
      lane.probe(PROBE_MS).catch(() => undefined);
    }
  }
}
