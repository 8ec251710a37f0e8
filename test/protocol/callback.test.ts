import { describe, expect, it } from "vitest";
import { type CallbackPatch, callbackSchema } from "../../src/protocol/callback.ts";

function read(body: unknown): CallbackPatch {
  return callbackSchema.parse(body).patch;
}

describe("the body of a callback", () => {
  it("is read in our own words", () => {
    const body = {
      status: "processing",
      progress: 12.5,
      stage: "noise",
      message: "twelve",
      counts: { total: 8, completed: 1, failed: 0 },
      result: { partial: [null] },
      error: { code: "E", message: "so far" },
    };
    expect(read(body)).toEqual(body);
  });

  it.each([
    ["success succeeded complete completed done ok OK finished Succeeded", "completed"],
    ["error errored ERROR failure failed FAILED", "failed"],
    ["canceled cancelled aborted", "cancelled"],
    ["timeout timed_out timed-out TimedOut", "timeout"],
    ["processing in_progress IN_PROGRESS in-progress running started", "processing"],
    ["pending queued starting in_queue IN_QUEUE", "queued"],
  ])("knows the statuses %s", (words, status) => {
    for (const word of words.split(" ")) expect(read({ status: word }).status, word).toBe(status);
  });

  it.each(["output", "outputs", "images", "result", "results", "data", "payload", "Output"])(
    "takes %s for the result",
    (name) => {
      expect(read({ [name]: ["a.png"] })).toEqual({ result: ["a.png"] });
    },
  );

  it("prefers our own word where a provider says more than one", () => {
    expect(read({ data: 1, output: 2, result: 3 })).toEqual({ result: 3 });
    expect(read({ state: "failed", status: "running" })).toEqual({ status: "processing" });
  });

  it.each([
    ["text", { error: "no memory" }, { code: "failed", message: "no memory" }],
    ["text and code", { error: "no", error_code: "OOM" }, { code: "OOM", message: "no" }],
    ["text and code", { error: "no", errorCode: 137 }, { code: "137", message: "no" }],
    ["object", { error: { code: "X", message: "no" } }, { code: "X", message: "no" }],
    ["object", { error: { type: "T", detail: "no" } }, { code: "T", message: "no" }],
    ["object", { error: { a: [1] } }, { code: "failed", message: '{"a":[1]}' }],
    ["list", { error: [{ msg: "no" }] }, { code: "failed", message: '[{"msg":"no"}]' }],
    ["mere code", { error_code: "OOM", message: "no" }, { code: "OOM", message: "no" }],
    ["nothing", {}, { code: "failed", message: "The job failed." }],
    ["nothing but a message", { message: "no" }, { code: "failed", message: "no" }],
  ])("reads the error of a failure as %s", (_, members, error) => {
    expect(read({ status: "error", ...members }).error).toEqual(error);
  });

  it("finds what it knows among a hundred thousand names", () => {
    const others = Object.fromEntries(Array.from({ length: 100_000 }, (_, at) => [`k${at}`, at]));
    expect(read({ ...others, Status: "done" })).toEqual({ status: "completed" });
  });

  it("gives a timeout its own error, and a success none", () => {
    expect(read({ status: "expired" }).error?.code).toBe("timeout");
    for (const error of [null, "", {}, false, [] as unknown]) {
      expect(read({ status: "ok", error, error_code: 0 })).toEqual({ status: "completed" });
    }
  });

  it("reads progress as a number, as text or as a percentage, between the edges", () => {
    expect(read({ percentage: 40 })).toEqual({ progress: 40 });
    expect(read({ progress: "40" })).toEqual({ progress: 40 });
    expect(read({ percent: "40.5 %" })).toEqual({ progress: 40.5 });
    expect(read({ progress: 100.4 })).toEqual({ progress: 100 });
    expect(read({ progress: -1 })).toEqual({ progress: 0 });
  });

  it("says nothing where it says null, has a wrong type or a name that is not known", () => {
    const body = {
      message: "m",
      id: "x",
      logs: "l",
      status: null,
      progress: "soon",
      stage: 3,
      counts: { total: 1 },
      output: null,
      __proto__: { status: "failed" },
    };
    expect(read(body)).toEqual({ message: "m" });
    expect(read(JSON.parse('{"message":"m","__proto__":{"status":"failed"}}'))).toEqual({
      message: "m",
    });
  });

  it("may be in the envelope that Standard Webhooks recommends", () => {
    const data = { status: "succeeded", output: "u" };
    expect(read({ type: "image.done", timestamp: "2026-01-01T00:00:00Z", data })).toEqual({
      status: "completed",
      result: "u",
    });
    expect(read({ type: "x", data: { url: "u" } })).toEqual({ result: { url: "u" } });
    expect(read({ status: "ok", data })).toEqual({ status: "completed", result: data });
  });

  it("is refused when nothing in it can be understood, with the field where one is meant", () => {
    const problem = (body: unknown) => callbackSchema.safeParse(body).error?.issues[0]?.path;
    for (const body of [{}, { id: 1 }, { status: null }]) expect(problem(body)).toEqual([]);
    for (const status of ["dreaming", 200, ""]) expect(problem({ status })).toEqual(["status"]);
    for (const body of [null, [], "ok", 1, undefined]) expect(problem(body)).toEqual([]);
    expect(problem({ progress: 1, message: "\u0000" })).toEqual(["message"]);
  });

  it("may be nested as deeply as it likes where it is not kept", () => {
    const deep = JSON.parse(`${"[".repeat(100_000)}${"]".repeat(100_000)}`);
    expect(read({ status: "failed", error: deep, logs: deep }).error).toEqual({
      code: "failed",
      message: "The job failed.",
    });
    expect(callbackSchema.safeParse({ result: deep }).success).toBe(false);
  });
});
