import { constants, type Stats } from "node:fs";
import { access, chmod, mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { type Account, run, systemCode } from "./command.ts";

/** Stands for a user whom nobody has made yet, and who will have no rights but everybody's. */
const NOBODY: Account = { uid: 65534, gid: 65534 };

/** PostgreSQL refuses root, so root runs it as somebody else. */
export const isRoot = process.getuid?.() === 0;

/** The owner of a file as the account to run PostgreSQL as; undefined is ourselves. */
export function accountOf({ uid, gid }: Stats): Account | undefined {
  return isRoot ? { uid, gid } : undefined;
}

/** The system's user `postgres`, whom root starts new clusters as; `NOBODY` if there is none. */
export async function postgresAccount(): Promise<Account | undefined> {
  if (!isRoot) return undefined;
  const ids = await Promise.all([run("id", ["-u", "postgres"]), run("id", ["-g", "postgres"])]);
  const [uid, gid] = ids.map(({ code, stdout }) => (code === 0 ? Number(stdout) : Number.NaN));
  return uid && gid !== undefined && !Number.isNaN(gid) ? { uid, gid } : NOBODY;
}

/**
 * The same, after making that user, in a group of that name, if it is missing.
 *
 * @throws {Error} with what useradd says.
 */
export async function makePostgresAccount(log: {
  info(o: object, msg: string): void;
}): Promise<Account | undefined> {
  const found = await postgresAccount();
  if (found !== NOBODY) return found;
  log.info({ user: "postgres" }, "PostgreSQL must not run as root: making a system user for it");
  const options = ["--system", "--no-create-home", "--gid", "postgres", "postgres"];
  const outcomes = [
    await run("groupadd", ["--force", "--system", "postgres"]),
    await run("useradd", options),
  ];
  // Their exit codes do not count: another process may have been faster.
  const made = await postgresAccount();
  if (made !== NOBODY) return made;
  const said = outcomes.map(({ stderr }) => stderr.trim()).join("; ");
  throw new Error(`The user postgres, whom root runs PostgreSQL as, cannot be made: ${said}.`);
}

/**
 * Makes the data directory, or opens one that is there to the account that PostgreSQL runs as:
 * mkdtemp, `umask 077` and `mkdir -m 700` as root all make one that PostgreSQL could not enter.
 * What lies in it stays private by its own mode.
 */
export async function openDataDir(dataDir: string): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: isRoot ? 0o711 : 0o700 });
  const { mode, uid } = await stat(dataDir);
  if (isRoot && uid === 0 && (mode & 0o001) === 0) await chmod(dataDir, mode | 0o001);
  await access(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
}

/**
 * The first directory on the way to a path, or the path itself, that the account may not enter;
 * undefined when it gets there.
 */
export async function findBarrier(
  path: string,
  account: Account | undefined,
): Promise<string | undefined> {
  if (!account) return undefined;
  const ways: string[] = [];
  for (let way = path; way !== dirname(way); way = dirname(way)) ways.unshift(way);
  // Asked of the system and not read off the modes, which know nothing of access lists.
  const script = 'for way do [ -x "$way" ] || { printf %s "$way"; exit 1; }; done';
  const asked = run("/bin/sh", ["-c", script, "sh", ...ways], { account });
  const { code, stdout } = await asked.catch((cause: unknown) => {
    throw new Error(
      `${must(account)}, which this root may not do (${systemCode(cause)}, a container without ` +
        `the capabilities SETUID and SETGID?): run it as another user, or ${INSTEAD}.`,
      { cause },
    );
  });
  return code === 0 ? undefined : stdout;
}

/**
 * Checks that the account can get to a file or directory.
 *
 * @throws {Error} naming the first directory on the way that it may not enter.
 */
export async function assertReachable(path: string, account: Account | undefined): Promise<void> {
  const barrier = await findBarrier(path, account);
  if (barrier !== undefined && account) throw unreachable(path, barrier, account);
}

/** @param cause why we found no way around */
export function unreachable(
  path: string,
  barrier: string,
  account: Account,
  cause?: unknown,
): Error {
  const instead = cause instanceof Error ? `; nor can another place be had (${cause.message})` : "";
  return new Error(
    `${must(account)}, who may not enter ${barrier} and cannot get to ${path}${instead}: ` +
      `run "chmod o+x ${barrier}", or run jobcast as another user, or move it and its DATA_DIR ` +
      `out of there, or ${INSTEAD}.`,
    { cause },
  );
}

const INSTEAD = "set DATABASE_URL to a PostgreSQL of your own";

function must({ uid }: Account): string {
  return `PostgreSQL must not run as root, so root runs it as another user (uid ${uid})`;
}
