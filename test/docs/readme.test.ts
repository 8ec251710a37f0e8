import { execFile } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { codeBlocks } from "../support/markdown.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

let database: TestDatabase;
let server: TestServer;

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startTestServer({ databaseUrl: database.url });
});

afterAll(async () => {
  await server?.stop();
  await database?.drop();
});

/** Runs lines of a shell as a reader pastes them. */
function paste(script: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, TOKEN: server.token({ sub: "alice" }) };
    execFile("bash", ["-c", script], { env, timeout: 20_000 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}\n${stdout}\n${stderr}`));
      else resolve(stdout);
    });
  });
}

describe("README.md", () => {
  it("says how to start and how to test with the commands of package.json", async () => {
    const [start, , test] = await codeBlocks("README.md", "sh");
    expect([start, test]).toEqual(["npm ci && npm start\n", "npm ci && npm test\n"]);
  });

  it("shows a job from creation to its end in lines that can be pasted", async () => {
    const [, lines = ""] = await codeBlocks("README.md", "sh");
    expect(lines).toContain("http://127.0.0.1:3000");
    const output = await paste(lines.replaceAll("http://127.0.0.1:3000", server.url));
    const ids = [...output.matchAll(/^id: (\d+)-/gm)].map(([, id]) => Number(id));
    // The stream begins with whatever state it finds, and ends with the job: bash waited for it.
    expect(ids.at(-1)).toBe(3);
    expect(output).toContain('"status":"completed"');
  });

  it("shows SQL that runs", async () => {
    const [sql = ""] = await codeBlocks("README.md", "sql");
    const [create = "", update = ""] = sql.split("\\gset\n");
    const [made] = await database.query<{ id: string }>(create);
    await database.query(update.replace(":'id'", `'${made?.id}'`));
    const rows = await database.query(
      "select progress, stage from jobcast.jobs where title = 'A sunset' and status = 'processing'",
    );
    expect(rows).toEqual([{ progress: 40, stage: "inference" }]);
  });
});
