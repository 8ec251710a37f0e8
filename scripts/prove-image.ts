/**
 * Carries out the Dockerfile without a container engine, starts what it makes and asks whether it
 * is ready: proves that the steps suffice and that the image lacks no file, not that Docker works.
 *
 * Usage: npm run prove:image        (as root, who alone can become the image's USER)
 *
 * Every stage is a folder whose /app holds nothing but what the steps put there; the build context
 * is what .dockerignore lets through. Exits 1 when a step fails, when the service is not ready
 * within a minute, not healthy by its HEALTHCHECK, or does not end with 0 after its STOPSIGNAL.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  buildStage,
  makeContext,
  parseCommand,
  parseDockerfile,
  type Stage,
} from "./dockerfile.ts";
import { run } from "./run.ts";
import { withTemporaryPostgres } from "./temporary-postgres.ts";

const READY_WITHIN_MS = 60_000;
const STOPS_WITHIN_MS = 30_000;

/** The base image's part: its Node is the one that runs us, its npm the one of this machine. */
async function makeBase(folder: string, stages: Stage[]): Promise<Record<string, string>> {
  const node = `node:${process.versions.node.split(".")[0]}-`;
  const other = stages.find(({ image }) => !image.startsWith(node));
  if (other) throw new Error(`${other.image} is not the ${node} that runs this script`);
  const bin = join(folder, "bin");
  await mkdir(bin);
  await copyFile(process.execPath, join(bin, "node"));
  // What `npm run` tells its scripts would make the steps' npm work on this project instead.
  const kept = Object.entries(process.env).filter(([key]) => !/^(npm_|NODE_|INIT_CWD)/.test(key));
  return { ...Object.fromEntries(kept), PATH: `${bin}:/usr/local/bin:/usr/bin:/bin` };
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || !address) throw new Error("no port");
  return address.port;
}

async function waitUntilReady(service: ChildProcess, port: number): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (let last = "no answer"; service.exitCode === null; await delay(100)) {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    if (answer) last = `${answer.status} ${await answer.text()}`;
    if (Date.now() > deadline) throw new Error(`not ready after ${READY_WITHIN_MS} ms: ${last}`);
  }
  throw new Error(`ended with ${service.exitCode} before it was ready`);
}

async function prove(stage: Stage, cwd: string, PATH: string, DATABASE_URL: string): Promise<void> {
  const [uid = Number.NaN, gid = uid] = (stage.settings["USER"] ?? "").split(":").map(Number);
  if (!(uid > 0)) throw new Error("USER must be a number above 0");
  const port = await findFreePort();
  const JWT_SECRET = "a secret that only this proof has ever used";
  const given = { PATH, PORT: String(port), HOST: "127.0.0.1", DATABASE_URL, JWT_SECRET };
  const options = { cwd, uid, gid, env: { ...stage.env, ...given }, signal: aborter.signal };

  const [file = "", ...args] = parseCommand(stage.settings["CMD"]);
  const service = spawn(file, args, { ...options, stdio: ["ignore", "inherit", "inherit"] });
  const ended = once(service, "exit");
  ended.catch((error: Error) => console.error(error.message)); // it could not even be started
  try {
    await waitUntilReady(service, port);
    const [probe = "", ...probeArgs] = parseCommand(stage.settings["HEALTHCHECK"]);
    await run(probe, probeArgs, options);
    service.kill((stage.settings["STOPSIGNAL"] ?? "SIGTERM") as NodeJS.Signals);
    const tooLate = delay(STOPS_WITHIN_MS, ["nothing: it still runs"], { ref: false });
    const [code] = await Promise.race([ended, tooLate]);
    if (code !== 0) throw new Error(`expected it to end with 0, got ${code}`);
  } finally {
    service.kill("SIGKILL");
  }
}

const aborter = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => aborter.abort());
const folder = await mkdtemp(join(tmpdir(), "jobcast-image-"));
try {
  await chmod(folder, 0o755); // the USER must get in
  const stages = parseDockerfile(await readFile("Dockerfile", "utf8"));
  const env = await makeBase(folder, stages);
  await makeContext(folder);
  let workdir = "";
  for (const stage of stages)
    workdir = await buildStage(stage, folder, { env, signal: aborter.signal });
  const image = stages.at(-1);
  if (!image) throw new Error("the Dockerfile has no stage");
  await withTemporaryPostgres((url) => prove(image, workdir, env["PATH"] ?? "", url));
  console.log("the image builds, starts, is ready and healthy, and stops");
} finally {
  await rm(folder, { recursive: true, force: true });
}
