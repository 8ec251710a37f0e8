/**
 * Lets the tools of others read the description of the API: two validators, and three generators of
 * clients, whose clients are type-checked and then used against a service.
 *
 * Usage: npm run prove:clients        (installs the tools into a temporary folder; needs Python for one)
 *
 * Exits 1 when a validator finds an error, a generator leaves an operation out, or a client does
 * not compile or does not get its job.
 */
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import jwt from "jsonwebtoken";
import { pino } from "pino";
import { createJobcast } from "../src/index.ts";
import { run } from "./run.ts";
import { withTemporaryPostgres } from "./temporary-postgres.ts";

const TOOLS = [
  "@hey-api/openapi-ts@0.99.0",
  "@redocly/openapi-core@2.64.0",
  "@stoplight/spectral-core@1.24.1",
  "@stoplight/spectral-parsers@1.0.5",
  "@stoplight/spectral-rulesets@1.23.1",
  "@types/node@24",
  "openapi-fetch@0.17.0",
  "openapi-typescript@7.13.0",
  "typescript@5.9.3",
];
const PYTHON_TOOL = "openapi-python-client==0.29.1";
const SECRET = "a secret that only this proof has ever used";

const VALIDATE = `
import { createConfig, lint } from "@redocly/openapi-core";
import spectral from "@stoplight/spectral-core";
import parsers from "@stoplight/spectral-parsers";
import rulesets from "@stoplight/spectral-rulesets";
import { readFile } from "node:fs/promises";
const config = await createConfig({ extends: ["recommended"] });
const redocly = (await lint({ ref: "openapi.json", config })).filter(({ severity }) => severity === "error");
const checker = new spectral.Spectral();
checker.setRuleset({ extends: [[rulesets.oas, "recommended"]] });
const text = await readFile("openapi.json", "utf8");
const found = (await checker.run(new spectral.Document(text, parsers.Json))).filter(({ severity }) => severity === 0);
const errors = [...redocly, ...found].map(({ message }) => message);
if (errors.length > 0) throw new Error(errors.join("\\n"));
`;

const FETCH = `
import createClient from "openapi-fetch";
import type { paths } from "./schema.d.ts";
const { URL = "", TOKEN } = process.env;
const client = createClient<paths>({ baseUrl: URL, headers: { authorization: "Bearer " + TOKEN } });
const made = await client.POST("/v1/jobs", { body: { type: "image", params: { prompt: "a bridge" } } });
if (!made.data) throw new Error(made.error.code);
const list = await client.GET("/v1/jobs", { params: { query: { status: ["pending"], limit: 5 } } });
if (list.data?.items[0]?.id !== made.data.id) throw new Error("it is not in the list");
const progress: number | undefined = list.data.items[0].progress;
if (progress !== 0) throw new Error("it has begun");
`;

const HEY_CONFIG = `
export default { input: "openapi.json", output: { path: "hey", importFileExtension: ".ts" } };
`;

const HEY = `
import { createClient } from "./hey/client/index.ts";
import { createJob, getJob } from "./hey/sdk.gen.ts";
const { URL = "", TOKEN = "" } = process.env;
const client = createClient({ baseUrl: URL, auth: TOKEN });
const made = await createJob({ client, body: { type: "image" } });
if (!made.data) throw new Error(made.error?.code);
const read = await getJob({ client, path: { id: made.data.id } });
if (read.data?.status !== "pending") throw new Error("it is not there");
`;

const PYTHON = `
import os
from client import AuthenticatedClient
from client.api.jobs import create_job, get_job
from client.models import CreateJob, CreatedJob, Job
client = AuthenticatedClient(base_url=os.environ["URL"], token=os.environ["TOKEN"])
made = create_job.sync(client=client, body=CreateJob(type_="image"))
assert isinstance(made, CreatedJob), made
read = get_job.sync(made.id, client=client)
assert isinstance(read, Job) and read.status == "pending", read
`;

const folder = await mkdtemp(join(tmpdir(), "jobcast-clients-"));

const command = (file: string, args: readonly string[], env: object = {}) =>
  run(file, args, { cwd: folder, env: { ...process.env, ...env } as NodeJS.ProcessEnv });

async function proveTypeScript(env: object): Promise<void> {
  await command("npx", ["openapi-typescript", "openapi.json", "-o", "schema.d.ts"]);
  await writeFile(join(folder, "openapi-ts.config.mjs"), HEY_CONFIG);
  await command("npx", ["openapi-ts"]);
  await writeFile(join(folder, "fetch.ts"), FETCH);
  await writeFile(join(folder, "hey.ts"), HEY);
  const strict = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2023"];
  const types = ["--allowImportingTsExtensions", "--skipLibCheck"];
  await command("npx", ["tsc", ...strict, ...types, "fetch.ts"]);
  await command("npx", ["tsc", ...strict, ...types, "hey.ts"]);
  await command(process.execPath, ["fetch.ts"], env);
  await command(process.execPath, ["hey.ts"], env);
}

async function provePython(env: object, operations: number): Promise<void> {
  await command("python3", ["-m", "venv", "python"]);
  await command("python/bin/pip", ["install", "--quiet", PYTHON_TOOL]);
  const generate = ["generate", "--path", "openapi.json", "--output-path", "client"];
  await command("python/bin/openapi-python-client", [...generate, "--meta", "none"]);
  const files = await readdir(join(folder, "client/api"), { recursive: true });
  const found = files.filter((name) => name.endsWith(".py") && !name.endsWith("__init__.py"));
  if (found.length !== operations) {
    throw new Error(`the Python client has ${found.length} of ${operations} operations`);
  }
  await writeFile(join(folder, "use.py"), PYTHON);
  await command("python/bin/python", ["use.py"], env);
}

async function prove(databaseUrl: string): Promise<void> {
  const jobcast = createJobcast({
    databaseUrl,
    jwt: { secret: SECRET },
    log: pino({ level: "warn" }),
  });
  await jobcast.start();
  const server = createServer(jobcast.app).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const token = jwt.sign({ sub: "alice", scope: "jobs:create" }, SECRET, { expiresIn: "1h" });
  try {
    const text = await (await fetch(`${url}/openapi.json`)).text();
    const { paths } = JSON.parse(text) as { paths: Record<string, object> };
    await writeFile(join(folder, "openapi.json"), text);
    await writeFile(join(folder, "package.json"), '{ "type": "module" }');
    await writeFile(join(folder, "validate.js"), VALIDATE);
    await command("npm", ["install", "--silent", "--ignore-scripts", ...TOOLS]);
    await command(process.execPath, ["validate.js"]);
    const operations = Object.values(paths).flatMap((methods) => Object.keys(methods)).length;
    await proveTypeScript({ URL: url, TOKEN: token });
    await provePython({ URL: url, TOKEN: token }, operations);
  } finally {
    server.closeAllConnections();
    server.close();
    await jobcast.drain(0);
    await jobcast.stop();
  }
}

try {
  await withTemporaryPostgres(prove);
  console.log("the description is valid, and clients that are generated from it compile and work");
} finally {
  await rm(folder, { recursive: true, force: true });
}
