import { afterEach, describe, expect, it } from "vitest";
import { type HttpFixture, serveHttp } from "./http-fixture.ts";
import { rawRequest } from "./raw-request.ts";

let fixture: HttpFixture | undefined;

afterEach(async () => {
  await fixture?.close();
  fixture = undefined;
});

async function serve(): Promise<number> {
  fixture = await serveHttp((req, res) => {
    if (req.url === "/reset") req.socket.resetAndDestroy();
    else res.end(`you asked for ${req.url}`);
  });
  return fixture.port;
}

describe("rawRequest", () => {
  it("gives back the bytes of the answer when the server closes", async () => {
    const request = "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    const answer = await rawRequest(await serve(), request);
    expect(answer.text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer.text).toContain("you asked for /a");
    expect(answer.ending).toBe("end");
  });

  it("stops at what the test calls complete on a connection that stays open", async () => {
    const request = "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    const isComplete = (text: string) => text.includes("asked for /b");
    const answer = await rawRequest(await serve(), request, { isComplete });
    expect(answer.text.match(/200 OK/g)).toHaveLength(2);
    expect(answer.ending).toBe("open");
  });

  it("sends FIN after the bytes when the request is to be half a conversation", async () => {
    const answer = await rawRequest(await serve(), "GET / HTT", { half: true });
    expect(answer.text).toMatch(/^HTTP\/1\.1 400 /);
  });

  it("tells a reset from an end", async () => {
    const answer = await rawRequest(await serve(), "GET /reset HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(answer).toMatchObject({ text: "", ending: "reset" });
  });

  it("fails at the deadline with what did come", async () => {
    const port = await serve();
    const request = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    await expect(rawRequest(port, request, { deadlineMs: 100 })).rejects.toThrow(
      "you asked for /a",
    );
  });

  it("fails with the socket's error when nobody listens", async () => {
    const port = await serve();
    await fixture?.close();
    fixture = undefined;
    await expect(rawRequest(port, "GET")).rejects.toThrow("ECONNREFUSED");
  });
});
