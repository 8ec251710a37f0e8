import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Edge, idOf, startEdge } from "../stream/edge.ts";
import { until, within } from "../support/deadline.ts";
import { EventStreamParser, type StreamEvent } from "../support/event-stream.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});

afterAll(() => edge?.stop());

/** `curl -N`, as an operator types it. Rejects when there is no curl on this machine. */
function curl(path: string, ...options: string[]) {
  const url = new URL(path, edge.server.url).href;
  const authorization = `Authorization: Bearer ${edge.server.token({ scope: "" })}`;
  const child = spawn("curl", ["-sSN", "-H", authorization, ...options, url]);
  const exited = once(child, "exit").then(([code]) => code as number);
  return { exited, output: text(child.stdout), complaints: text(child.stderr) };
}

const isWatched = () => edge.server.jobcast.statistics().open.sse > 0;

describe("curl -N", () => {
  it("shows every version and exits with 0 within a second of the job's end", async () => {
    const job = await edge.newJob();
    const { exited, output, complaints } = curl(`/v1/jobs/${job}/events`);
    await until(isWatched, 10_000, "curl's stream");
    await edge.report(job, 10, 40);
    await edge.complete(job, { url: "https://example.com/a.png" });
    expect(await within(exited, 1_000, "the end of curl")).toBe(0);
    expect(await complaints).toBe("");

    const events: StreamEvent[] = [];
    const parser = new EventStreamParser((event) => events.push(event));
    parser.push(Buffer.from(await output));
    expect(parser.end()).toBe(false); // the last event is whole
    const versions = events
      .filter(({ type }) => type === "status")
      .map((event) => event.lastEventId);
    expect(versions.at(-1)).toEqual(idOf(4));
    expect(JSON.parse(events.at(-1)?.data ?? "")).toMatchObject({ status: "completed" });
  });

  it("resumes with the header that a person would type", async () => {
    const job = await edge.newJob();
    await edge.report(job, 10, 40);
    await edge.complete(job);
    const { exited, output } = curl(`/v1/jobs/${job}/events`, "-H", "Last-Event-ID: 2");
    expect(await within(exited, 5_000, "the end of curl")).toBe(0);
    expect([...(await output).matchAll(/^id: (\d+)-\w+$/gm)].map(([, id]) => id)).toEqual([
      "3",
      "4",
    ]);
  });

  it("gets the head of a stream with -I, and nothing stays open", async () => {
    const job = await edge.newJob();
    const { exited, output } = curl(`/v1/jobs/${job}/events`, "-I");
    expect(await within(exited, 1_000, "the end of curl")).toBe(0);
    expect(await output).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*content-type: text\/event-stream/i);
    await edge.expectNothingOpen();
  });
});
