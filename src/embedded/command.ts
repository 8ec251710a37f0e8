import { spawn } from "node:child_process";

/** The user that a command runs as; only root may name one. */
export type Account = { readonly uid: number; readonly gid: number };

export type Outcome = {
  /** null when a signal ended it, as the time limit does */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
};

export type RunOptions = {
  account?: Account | undefined;
  cwd?: string;
  env?: Record<string, string>;
  /** Written to its standard input, which is empty otherwise. */
  input?: string;
  /** Unit: milliseconds, default 10,000. Over it the command is killed. */
  timeoutMs?: number;
  /** Puts it in a process group of its own, where Ctrl-C does not reach it. */
  detached?: boolean;
  /** Kills it, too. */
  signal?: AbortSignal | undefined;
};

// Not our own environment: PostgreSQL keeps the one it was started with, every server process can
// read it, and ours holds JWT_SECRET. PGDATA, PGPORT and LC_ALL in it would be obeyed, too.
// Windows programs do not load without theirs.
const ENVIRONMENT = { PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C" };

/**
 * Runs a command to its end and tells how it went.
 *
 * @throws {Error} when it cannot be started at all; the cause has the `code` of the system.
 */
export function run(
  file: string,
  args: readonly string[],
  { account, cwd, env, input, timeoutMs = 10_000, detached = false, signal }: RunOptions = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => {
      const as = account ? ` as uid ${account.uid}` : "";
      reject(new Error(`cannot run ${file}${as}: ${cause.message}`, { cause }));
    };
    const child = spawn(file, args, {
      ...account,
      ...(cwd === undefined ? {} : { cwd }),
      ...(process.platform === "win32" ? {} : { env: { ...ENVIRONMENT, ...env } }),
      detached,
      windowsHide: true,
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", fail);
    // A command that ends without reading breaks the pipe: its exit code tells more than EPIPE.
    child.stdin.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") fail(error);
    });
    child.stdin.end(input);
    const kill = () => child.kill("SIGKILL");
    if (signal?.aborted) kill();
    signal?.addEventListener("abort", kill);
    child.on("close", (code) => {
      signal?.removeEventListener("abort", kill);
      resolve({ code, stdout, stderr });
    });
  });
}

/** The `code` of a system error (ENOENT, EACCES, ...), also of one that `run` wrapped. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  return (error as NodeJS.ErrnoException).code ?? systemCode(error.cause);
}
