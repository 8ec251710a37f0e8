import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

const hasProc = existsSync("/proc/self/stat");

/** A process id that a later process cannot be mistaken for, where the system tells enough. */
export type ProcessIdentity = {
  readonly pid: number;
  /** Ticks since boot, from /proc; "" where there is none (macOS, Windows). */
  readonly startedAt: string;
};

/**
 * Who has this process id, or undefined if nobody runs under it.
 *
 * A zombie counts as nobody: it has let go of everything, yet `kill(pid, 0)` finds it for as long
 * as nobody reaps it, and in a container whose first process is Node that is for ever.
 */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, and belongs to somebody else.
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return undefined;
  }
  if (!hasProc) return { pid, startedAt: "" };
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    // It ended between the two questions.
    return undefined;
  }
  // proc(5): "pid (name) state ...", where the name may hold blanks and brackets.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return undefined;
  return { pid, startedAt: fields[19] ?? "" };
}

/** Whether that very process still runs. */
export function isRunning({ pid, startedAt }: ProcessIdentity): boolean {
  return identify(pid)?.startedAt === startedAt;
}

/**
 * Where process ids have the same meaning as here: this boot of this kernel and this container. Two
 * containers on one volume both have a process 1, and say nothing about each other's.
 */
export function processPlace(): string {
  if (!hasProc) return hostname();
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return `${boot} ${readlinkSync("/proc/self/ns/pid")}`;
}
