import { appendFile, chmod, chown, open, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Account } from "./command.ts";

/** At a start, a longer log is put aside as postgres.log.1. Unit: bytes. */
const MAX_LOG_BYTES = 10 * 1024 * 1024;
/** How much of its end is read to quote it. */
const TAIL_BYTES = 16 * 1024;

export type ServerLog = {
  readonly file: string;
  /** A start begins: nothing before this is quoted. */
  mark(): Promise<void>;
  /** Why PostgreSQL does not start, in its own words, on one line; empty if it says nothing. */
  complaints(): Promise<string>;
  /** Its last lines, on one. */
  ending(): Promise<string>;
};

/** `<dataDir>/postgres.log`, which pg_ctl opens as the account and so must belong to it. */
export async function openServerLog(
  dataDir: string,
  account: Account | undefined,
): Promise<ServerLog> {
  const file = join(dataDir, "postgres.log");
  const size = await stat(file).then(
    (found) => found.size,
    () => 0,
  );
  if (size > MAX_LOG_BYTES) await rename(file, `${file}.1`);
  await appendFile(file, "", { mode: 0o600 });
  await chmod(file, 0o600);
  if (account) await chown(file, account.uid, account.gid);
  let start = 0;
  return {
    file,
    async mark() {
      start = (await stat(file)).size;
    },
    async complaints() {
      const lines = await readLines(file, start);
      return joinLines(lines.filter((line) => /\b(?:FATAL|PANIC|HINT): |could not/.test(line)));
    },
    async ending() {
      const lines = await readLines(file, start);
      return joinLines(lines.filter((line) => !/\bcheckpoint /.test(line)));
    },
  };
}

async function readLines(file: string, start: number): Promise<string[]> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const from = Math.max(start, size - TAIL_BYTES);
    const buffer = Buffer.alloc(Math.max(0, size - from));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, from);
    return buffer.toString("utf8", 0, bytesRead).split("\n").filter(Boolean);
  } finally {
    await handle.close();
  }
}

/** The last lines without their times and levels, as parts of a sentence. */
function joinLines(lines: string[]): string {
  return lines
    .slice(-4)
    .map((line) => line.replace(/^.*?\b[A-Z]+: +/, "").trim())
    .join("; ");
}
