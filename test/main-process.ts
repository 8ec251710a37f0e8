import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until, within } from "./support/deadline.ts";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

/** Generous: a first start makes a database, on a machine that may be busy with other tests. */
const START_MS = 60_000;

export type MainProcess = {
  readonly pid: number;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
  kill(signal: NodeJS.Signals): void;
  /** Waits until one of its streams has something that matches, and gives back the match. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  /** The address from its log. */
  url(): Promise<string>;
};

const running = new Set<MainProcess>();
const folders = new Set<string>();

export type MainOptions = {
  /** How many the process may open. Default: as many as the tests. */
  readonly openFiles?: number;
  readonly args?: readonly string[];
  /** Default: ours. */
  readonly main?: string;
};

/** Runs `node src/main.ts` in a folder of its own, with nothing in its environment but `env`. */
export function runMain(
  env: Record<string, string> = {},
  cwd = makeFolder(),
  { openFiles, args = [], main: script = MAIN }: MainOptions = {},
): MainProcess {
  const limit = openFiles === undefined ? "" : `ulimit -n ${openFiles} && `;
  const command = ["-c", `${limit}exec "$@"`, "sh", process.execPath, script, ...args];
  const child = spawn("/bin/sh", command, {
    cwd,
    env: { PATH: process.env["PATH"], PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? signal));
  });
  const main: MainProcess = {
    pid: child.pid ?? 0,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    kill: (signal) => void child.kill(signal),
    says: (pattern) =>
      until(
        () => pattern.exec(stdout) ?? pattern.exec(stderr) ?? undefined,
        START_MS,
        () => `${pattern} in\n${stdout}\n${stderr}`,
      ),
    async url() {
      const [, port] = await main.says(/"port":(\d+),"msg":"listening"/);
      return `http://127.0.0.1:${port}`;
    },
  };
  running.add(main);
  void ended.catch(() => undefined).then(() => running.delete(main));
  return main;
}

/** A folder that everybody may enter, as an embedded PostgreSQL under root needs it. */
export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "jobcast-main-"));
  chmodSync(folder, 0o711);
  folders.add(folder);
  return folder;
}

/** Ends what a failed test left running, in good order, so that no database stays behind. */
export async function endAll(): Promise<void> {
  for (const main of [...running]) {
    main.kill("SIGTERM");
    await within(main.ended, START_MS, "the end of a process");
  }
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  folders.clear();
}
