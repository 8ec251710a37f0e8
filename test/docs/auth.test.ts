import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Edge, startEdge } from "../stream/edge.ts";
import { codeBlocks } from "../support/markdown.ts";
import { TEST_SECRET } from "../support/tokens.ts";

let edge: Edge;
let folder: string;

beforeAll(async () => {
  edge = await startEdge();
  folder = await mkdtemp(join(tmpdir(), "jobcast-auth-"));
  const modules = new URL("../../node_modules", import.meta.url).pathname;
  await symlink(modules, join(folder, "node_modules"));
});
afterAll(async () => {
  await edge?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A job may be created with it, which the documentation's claims are for. */
async function expectGood(token: string): Promise<void> {
  const response = await fetch(`${edge.server.url}/v1/jobs`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ type: "test" }),
  });
  const { ownerId } = (await response.json()) as { ownerId: string };
  expect([response.status, ownerId]).toEqual([201, "alice"]);
}

async function tokenOf(program: string, language: string, file: string): Promise<string> {
  const [code = ""] = await codeBlocks("docs/auth.md", language);
  await writeFile(join(folder, file), code);
  const env = { ...process.env, JWT_SECRET: TEST_SECRET };
  const { stdout } = await promisify(execFile)(program, [join(folder, file)], { env });
  return stdout.trim();
}

it("a token is made in Node as docs/auth.md says", async () => {
  await expectGood(await tokenOf(process.execPath, "js", "mint.mjs"));
});

const hasPyJwt = spawnSync("python3", ["-c", "import jwt"]).status === 0;

it.runIf(hasPyJwt)("a token is made in Python as docs/auth.md says", async () => {
  await expectGood(await tokenOf("python3", "python", "mint.py"));
});

it("a key is taken back as docs/auth.md says", async () => {
  const [sql = ""] = await codeBlocks("docs/auth.md", "sql");
  await edge.server.jobcast.streamToken({ ownerId: "alice" });
  const owner = await edge.db.connect();
  await owner.query(`set role "${new URL(edge.db.url).username}"`);
  expect((await owner.query(sql)).rowCount).toBe(1);
});
