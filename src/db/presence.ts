import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Lane } from "./lane.ts";
import type { Lanes } from "./lanes.ts";
import { theOne } from "./query.ts";

/** How often a process says who watches. */
const BEAT_MS = 3_000;

const LEAVE_MS = 500;

/** A process that has been silent for so long has gone. */
const GONE_SECONDS = 15;

/** Who watches a job, in all processes: as they said a moment ago. */
export type Viewers = {
  /** Streams and polls of this job alone. */
  readonly count: number;
  /** Whose they are, each once. */
  readonly owners: readonly string[];
};

export type Presence = {
  /** A stream of a job begins; gives back what ends it. */
  join(jobId: string, ownerId: string): () => void;
  read(jobId: string, by: string): Promise<Viewers>;
  start(): void;
  stop(): Promise<void>;
};

type Watching = { readonly jobId: string; readonly ownerId: string };

type PresenceLog = { warn(details: object, message: string): void };

/**
 * Counts who watches here, and tells the database what has changed of it, every few seconds and all
 * at once: so that it costs as much as viewers come and go, and not as many as they are.
 */
export function createPresence(
  { service, reads }: Pick<Lanes, "service" | "reads">,
  log: PresenceLog,
): Presence {
  const processId = randomUUID();
  const stopping = new AbortController();
  const query = service.for({});
  const here = new Map<string, number>();
  /** What the database was told. */
  let told = new Map<string, number>();
  let running: Promise<void> | undefined;

  function add(key: string, count: number): void {
    const now = (here.get(key) ?? 0) + count;
    if (now > 0) here.set(key, now);
    else here.delete(key);
  }

  async function beat(): Promise<void> {
    const { is_new } = theOne(await query<{ is_new: boolean }>(BEAT, [processId, GONE_SECONDS]));
    // It was taken for gone, or the database has crashed.
    if (is_new) told = new Map();
    const now = new Map(here);
    const changed = [...new Set([...now.keys(), ...told.keys()])].filter(
      (key) => now.get(key) !== told.get(key),
    );
    if (changed.length === 0) return;
    const watching = changed.map((key): Watching => JSON.parse(key));
    await query(TELL, [
      processId,
      watching.map(({ jobId }) => jobId),
      watching.map(({ ownerId }) => ownerId),
      changed.map((key) => now.get(key) ?? 0),
    ]);
    told = now;
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      await beat().catch((err: unknown) => {
        if (!stopping.signal.aborted) log.warn({ err }, "who watches was not told; trying again");
      });
      const wait = BEAT_MS * (0.75 + Math.random() / 2);
      await delay(wait, undefined, { signal: stopping.signal }).catch(() => undefined); // stopping
    }
  }

  return {
    join(jobId, ownerId) {
      const key = JSON.stringify({ jobId, ownerId } satisfies Watching);
      add(key, 1);
      let isHere = true;
      return () => {
        if (isHere) add(key, -1);
        isHere = false;
      };
    },
    read: (jobId, by) => readViewers(reads, jobId, by),
    start() {
      running ??= run();
    },
    async stop() {
      stopping.abort();
      await running;
      if (!running) return;
      // Nobody waits long for it: what stays is taken for gone in a few seconds.
      const leave = query("delete from jobcast.viewing_processes where id = $1", [processId]);
      leave.catch((err: unknown) => log.warn({ err }, "who watched here is told for a while yet"));
      await Promise.race([
        leave.catch(() => undefined),
        delay(LEAVE_MS, undefined, { ref: false }),
      ]);
    },
  };
}

const BEAT = `
  with gone as (
    delete from jobcast.viewing_processes
    where id in (
      select id from jobcast.viewing_processes
      where seen_at < clock_timestamp() - make_interval(secs => $2) and id <> $1
      for update skip locked
    )
  )
  insert into jobcast.viewing_processes as p (id, seen_at) values ($1, clock_timestamp())
  on conflict (id) do update set seen_at = excluded.seen_at
  returning xmax = 0 as is_new`;

const TELL = `
  with said as (
    select * from unnest($2::uuid[], $3::text[], $4::integer[]) s (job_id, owner_id, streams)
  ), left_ as (
    delete from jobcast.viewers v using said s
    where v.process_id = $1 and v.job_id = s.job_id and v.owner_id = s.owner_id and s.streams = 0
  )
  insert into jobcast.viewers (process_id, job_id, owner_id, streams)
    select $1, s.job_id, s.owner_id, s.streams from said s where s.streams > 0
  on conflict (process_id, job_id, owner_id) do update set streams = excluded.streams`;

/** Owners that are told, of a job that half the world watches. */
const MAX_OWNERS = 100;

async function readViewers(lane: Lane, jobId: string, by: string): Promise<Viewers> {
  const rows = await lane.for({ owner: by })<{ owner_id: string; streams: number; all: number }>(
    `select v.owner_id, sum(v.streams) as streams, sum(sum(v.streams)) over () as all
     from jobcast.viewers v
     join jobcast.viewing_processes p on p.id = v.process_id
     where v.job_id = $1 and p.seen_at > clock_timestamp() - make_interval(secs => $2)
     group by v.owner_id
     order by v.owner_id
     limit ${MAX_OWNERS}`,
    [jobId, GONE_SECONDS],
  );
  return { count: Number(rows[0]?.all ?? 0), owners: rows.map(({ owner_id }) => owner_id) };
}
