import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { identify, isRunning, type ProcessIdentity, processPlace } from "./process-identity.ts";

/** How often an owner renews the time of its file. */
const BEAT_MS = 1_000;
/** Without a beat for so long, an owner whose process cannot be looked up is gone. */
const SILENCE_MS = 5 * BEAT_MS;
/** A beat older than this needs no watching, whatever two machines' clocks differ by. */
const LONG_AGO_MS = 60 * BEAT_MS;

type Owner = ProcessIdentity & {
  readonly place: string;
  readonly host: string;
  /** The number of this file in its file system: in a copy of the directory it is another. */
  readonly inode: string;
};

export type Claim = {
  /** Lets others have the directory; safe to call twice. */
  release(): void;
};

/**
 * Makes this process the only one to use the data directory, by the file `owner.pid` in it.
 *
 * A PostgreSQL that is found running there cannot tell whether it is an orphan, to be taken over,
 * or the database of a living service: its owner can. An owner that was killed leaves the file
 * behind; it is dead when its process is (pid and start time), or, where that cannot be known
 * (another container, another machine, no /proc), when the file's time no longer moves.
 *
 * @throws {Error} when the owner lives, or when the directory is a copy that was made while it did.
 */
export async function claimDataDir(dataDir: string): Promise<Claim> {
  const file = join(dataDir, "owner.pid");
  const itself = identify(process.pid) ?? { pid: process.pid, startedAt: "" };
  const self = { ...itself, place: processPlace(), host: hostname() };
  let mine = create(file, self);
  for (; mine === undefined; mine = create(file, self)) {
    const theirs = read(file);
    if (theirs === undefined) continue;
    assertNoCopy(dataDir, file, theirs);
    if (await isAlive(file, theirs)) throw new Error(refusal(dataDir, theirs));
    takeAway(file, theirs);
  }
  const beat = setInterval(() => {
    const now = new Date();
    // Fails when the data directory was deleted, which the end of PostgreSQL will tell.
    utimes(file, now, now).catch(() => undefined);
  }, BEAT_MS).unref();
  return {
    release() {
      clearInterval(beat);
      if (read(file) === mine) rmSync(file, { force: true });
    },
  };
}

/** What it wrote; undefined when the file is there already. */
function create(file: string, self: Omit<Owner, "inode">): string | undefined {
  let opened: number | undefined;
  try {
    opened = openSync(file, "wx", 0o644);
    const inode = String(fstatSync(opened, { bigint: true }).ino);
    const content = JSON.stringify({ ...self, inode } satisfies Owner);
    writeSync(opened, content);
    return content;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return undefined;
    // A full disk makes the file and has no room for what is in it.
    rmSync(file, { force: true });
    throw error;
  } finally {
    if (opened !== undefined) closeSync(opened);
  }
}

/**
 * A PostgreSQL whose files are copied one after the other while it runs is not the same database at
 * any moment. The copy starts, and what is wrong with it shows much later.
 */
function assertNoCopy(dataDir: string, file: string, theirs: string): void {
  const owner = parseOwner(theirs);
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  if (!owner?.inode || !found || owner.inode === String(found.ino)) return;
  if (!existsSync(join(dataDir, "postgres/postmaster.pid"))) return;
  throw new Error(
    `The data directory ${dataDir} was copied while process ${owner.pid} on ${owner.host} used it, ` +
      "so what is in it may not fit together: stop that process, and copy the directory again. If " +
      `nothing ran when it was copied, as after a crash, or if it is a snapshot of the whole file ` +
      `system, remove ${file} and start again.`,
  );
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** undefined for a file that its owner is still writing, or never came to write. */
function parseOwner(content: string): Owner | undefined {
  try {
    return JSON.parse(content) as Owner;
  } catch {
    return undefined;
  }
}

async function isAlive(file: string, content: string): Promise<boolean> {
  const owner = parseOwner(content);
  if (owner?.place === processPlace()) {
    if (owner.startedAt !== "") return isRunning(owner);
    if (identify(owner.pid) === undefined) return false;
  }
  const first = await modifiedAt(file);
  if (first === undefined || Date.now() - first > LONG_AGO_MS) return false;
  for (const end = performance.now() + SILENCE_MS; performance.now() < end; ) {
    await delay(BEAT_MS / 4);
    const last = await modifiedAt(file);
    if (last !== first) return last !== undefined;
  }
  return false;
}

async function modifiedAt(file: string): Promise<number | undefined> {
  return await stat(file).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
}

/** Removes a dead owner's file, and not that of another who has just removed and replaced it. */
function takeAway(file: string, theirs: string): void {
  const aside = `${file}.${process.pid}`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  if (read(aside) === theirs) rmSync(aside);
  else renameSync(aside, file);
}

function refusal(dataDir: string, content: string): string {
  const owner = parseOwner(content);
  const who = owner ? `process ${owner.pid} on ${owner.host}` : "another process";
  return (
    `The data directory ${dataDir} is in use by another jobcast (${who}): ` +
    "stop that one, or give this one a directory of its own with DATA_DIR."
  );
}
