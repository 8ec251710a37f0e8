import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CONFIG_KEYS } from "../../src/service/config.ts";
import { type Edge, startEdge } from "../stream/edge.ts";

let edge: Edge;
let metrics: ReadonlySet<string>;

beforeAll(async () => {
  edge = await startEdge();
  const text = await (await fetch(`${edge.server.url}/metrics`)).text();
  metrics = new Set([...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name = ""]) => name));
});
afterAll(() => edge?.stop());

const read = (name: string) =>
  readFile(new URL(`../../docs/deploy/${name}`, import.meta.url), "utf8");

describe.each(["alerts.yaml", "grafana.json"])("docs/deploy/%s", (name) => {
  it("asks for metrics that there are", async () => {
    const asked = (await read(name)).match(/\b(jobcast|nodejs|process)_\w+(?=[ "{[)])/g) ?? [];
    expect(asked.length).toBeGreaterThan(5);
    expect(asked.filter((each) => !metrics.has(each))).toEqual([]);
  });
});

/** What is not ours to know. */
const FOREIGN = new Set(["POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "NODE_OPTIONS"]);

describe.each([
  ["compose.yaml", /^ {6}([A-Z_]+): /gm],
  ["kubernetes.yaml", /name: ([A-Z_]+)\b/g],
  ["jobcast.service", /(?:^Environment=|(?<=^Environment=.*) )([A-Z_]+)=/gm],
])("docs/deploy/%s", (name, pattern) => {
  it("sets what is read", async () => {
    const set = [...(await read(name)).matchAll(pattern)].map(([, key = ""]) => key);
    expect(set.length).toBeGreaterThanOrEqual(3);
    expect(set.filter((key) => !CONFIG_KEYS.includes(key) && !FOREIGN.has(key))).toEqual([]);
  });
});
