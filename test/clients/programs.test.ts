import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type Edge, startEdge } from "../stream/edge.ts";
import { until, within } from "../support/deadline.ts";
import { codeBlocks } from "../support/markdown.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

/*
 * The programs of docs/clients.md, each where its language is installed; that of browsers is in
 * chromium.test.ts.
 */

type Program = {
  readonly language: string;
  /** How it is known that the language is here. */
  readonly needs: readonly string[];
  readonly file: string;
  readonly run: (file: string) => readonly string[];
  /** Before it runs; a build, for example. */
  readonly files?: Readonly<Record<string, string>>;
  readonly build?: readonly string[];
};

const CARGO = `[package]
name = "watch"
version = "0.1.0"
edition = "2021"
[dependencies]
ureq = { version = "2", default-features = false }
serde_json = "1"
`;

/** A crate with nothing in it but what it depends on. */
function crate(): string {
  const home = join(tmpdir(), "jobcast-test-crate");
  mkdirSync(join(home, "src"), { recursive: true });
  writeFileSync(join(home, "Cargo.toml"), CARGO);
  writeFileSync(join(home, "src/main.rs"), "fn main() {}");
  return home;
}

/** Of all runs of the tests: what a crate needs takes half a minute to compile. */
const RUST_TARGET = join(tmpdir(), "jobcast-test-rust");

const PROGRAMS: readonly Program[] = [
  {
    language: "ts",
    needs: [process.execPath, "--version"],
    file: "watch.ts",
    run: (file) => [process.execPath, file],
  },
  {
    language: "python",
    needs: ["python3", "--version"],
    file: "watch.py",
    run: (file) => ["python3", file],
  },
  { language: "php", needs: ["php", "--version"], file: "watch.php", run: (file) => ["php", file] },
  {
    language: "java",
    needs: ["javac", "--version"],
    file: "Watch.java",
    run: (file) => ["java", file],
  },
  {
    language: "go",
    needs: ["go", "version"],
    file: "watch.go",
    build: ["go", "build", "-o", "watch", "watch.go"],
    run: (file) => [file.replace(/\.go$/, "")],
  },
  {
    language: "rust",
    // Whoever has the language may yet have no way to the two crates.
    needs: ["cargo", "fetch", "--quiet", "--manifest-path", join(crate(), "Cargo.toml")],
    file: "src/main.rs",
    files: {
      "Cargo.toml": CARGO,
    },
    build: ["cargo", "build", "--quiet", "--target-dir", RUST_TARGET],
    run: () => [join(RUST_TARGET, "debug", "watch")],
  },
];

const isInstalled = ({ needs: [command = "", ...args] }: Program) =>
  spawnSync(command, args).status === 0;
const INSTALLED = PROGRAMS.filter(isInstalled);

vi.setConfig({ testTimeout: 300_000, hookTimeout: 60_000 });

let edge: Edge;
let folder: string;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  edge = await startEdge({ retryMs: 100, heartbeatSeconds: 2 });
  folder = await mkdtemp(join(tmpdir(), "jobcast-clients-"));
});
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await edge?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Puts the program of the documentation into a folder, and builds it. */
async function prepare({ language, file, files = {}, build }: Program): Promise<string> {
  const [code = ""] = await codeBlocks("docs/clients.md", language);
  const home = join(folder, language);
  await mkdir(join(home, "src"), { recursive: true });
  for (const [name, text] of Object.entries({ ...files, [file]: code })) {
    await writeFile(join(home, name), text);
  }
  await symlink(
    fileURLToPath(new URL("../../node_modules", import.meta.url)),
    join(home, "node_modules"),
  );
  if (build) {
    const [command = "", ...args] = build;
    const { stderr } = await promisify(execFile)(command, args, { cwd: home });
    expect(stderr, `${command} ${args.join(" ")}`).toBe("");
  }
  return join(home, file);
}

function start(command: readonly string[], url: string, job: string, token: string) {
  const [program = "", ...args] = command;
  const child = spawn(program, [...args, job], {
    env: { ...process.env, JOBCAST_URL: url, JOBCAST_TOKEN: token },
  });
  children.add(child);
  let [output, complaints] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk: Buffer) => {
    complaints += chunk;
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  return {
    ended,
    complaints: () => complaints,
    lines: () => output.split("\n").filter(Boolean),
  };
}

describe.skipIf(INSTALLED.length === 0)("the programs of docs/clients.md", () => {
  it.concurrent.each(INSTALLED)(
    "$language: misses nothing, and ends with the job",
    async (program) => {
      const file = await prepare(program);
      const proxy: TcpProxy = await startTcpProxy(edge.server.port);
      const id = await edge.newJob();
      const url = `http://127.0.0.1:${proxy.port}`;
      const run = start(program.run(file), url, id, edge.server.token({ scope: "" }));
      const sees = (version: number, status: string, deadlineMs = 20_000) =>
        until(
          () => run.lines().includes(`${version} ${status}`),
          deadlineMs,
          () => `version ${version}: ${run.lines()} ${run.complaints()}`,
        );
      await sees(1, "pending", 60_000);
      await edge.report(id, 10);
      await sees(2, "processing");
      proxy.cut();
      await edge.report(id, 20);
      await sees(3, "processing");
      // The connection is dead, and nobody says so; the next one is as good as any.
      proxy.blackhole();
      await edge.report(id, 30);
      proxy.thaw();
      await sees(4, "processing", 60_000);
      await edge.complete(id, "\u2028x".repeat(300_000));
      expect(await within(run.ended, 20_000, () => `its end: ${run.complaints()}`)).toBe(0);
      expect(run.lines()).toEqual([
        "1 pending",
        "2 processing",
        "3 processing",
        "4 processing",
        "5 completed",
      ]);
      expect(run.complaints()).toBe("");

      const refused = start(program.run(file), url, id, "nonsense");
      expect(await within(refused.ended, 60_000, "its end")).toBe(1);
      expect(refused.complaints()).toContain("401");
      await proxy.close();
    },
  );
});

describe("the line for curl", () => {
  it("shows a job to its end", async () => {
    const [line = ""] = await codeBlocks("docs/clients.md", "sh");
    const id = await edge.newJob();
    const child = spawn("sh", ["-c", line], {
      env: {
        ...process.env,
        JOBCAST_URL: edge.server.url,
        JOBCAST_TOKEN: edge.server.token({ scope: "" }),
        JOB: id,
      },
    });
    children.add(child);
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk;
    });
    const ended = new Promise((resolve) => child.once("close", resolve));
    await until(() => output.includes("event: status"), 10_000, "the first event");
    await edge.complete(id);
    expect(await within(ended, 10_000, "the end of curl")).toBe(0);
    expect(output).toContain('"status":"completed"');
  });
});
