import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { DeadlineError, until, within } from "./deadline.ts";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.ts";

/** How long a test watches for something that must not happen. */
const NOTHING_MS = 100;

const cleanUps: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** A server that says its greeting and echoes; `sockets` are its ends of the connections. */
async function startEcho(greeting = "hello\n") {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    socket.write(greeting);
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { port: (server.address() as AddressInfo).port, sockets };
}

function dial(proxy: TcpProxy) {
  const socket = connect(proxy.port, "127.0.0.1");
  let received = "";
  const seen = { end: false, error: undefined as string | undefined };
  socket.on("data", (chunk) => {
    received += String(chunk);
  });
  socket.on("end", () => {
    seen.end = true;
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    seen.error = error.code;
  });
  cleanUps.push(() => socket.destroy());
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));

  async function dataUntil(hasEnough: () => boolean, what: string): Promise<void> {
    const arrive = async () => {
      while (!hasEnough()) await once(socket, "data");
    };
    await within(arrive(), 5_000, () => `${what}; ${received.length} came`);
  }

  return {
    socket,
    seen,
    length: () => received.length,
    closed: () => within(closed, 5_000, "the client's socket to close"),
    receives: (text: string) => dataUntil(() => received === text, JSON.stringify(text)),
    receivesBytes: (count: number) => dataUntil(() => received.length >= count, `${count} bytes`),
    async receivesNothingMore() {
      const more = Promise.race([once(socket, "data"), once(socket, "end"), closed]);
      await expect(within(more, NOTHING_MS, "nothing")).rejects.toThrow(DeadlineError);
    },
  };
}

async function isReset(socket: Socket | undefined): Promise<void> {
  const isTornDown = () => (socket?.errored as NodeJS.ErrnoException | null)?.code === "ECONNRESET";
  await until(isTornDown, 5_000, "the reset at the target");
}

async function setup() {
  const target = await startEcho();
  const proxy = await startTcpProxy(target.port);
  cleanUps.push(() => proxy.close());
  return { target, proxy };
}

async function setupTalking() {
  const { target, proxy } = await setup();
  const client = dial(proxy);
  await client.receives("hello\n");
  return { target, proxy, client };
}

describe("forwarding", () => {
  it("carries bytes both ways and counts the connections", async () => {
    const { proxy, client } = await setupTalking();
    client.socket.write("a");
    await client.receives("hello\na");
    expect(proxy.connections()).toBe(1);
    expect(proxy.accepted()).toBe(1);
  });

  it("carries an orderly end behind the last byte", async () => {
    const { proxy, client } = await setupTalking();
    const text = "x".repeat(3_000_000);
    client.socket.end(text);
    await client.closed();
    expect(client.length()).toBe(6 + text.length);
    expect(client.seen).toEqual({ end: true, error: undefined });
    await until(() => proxy.connections() === 0, 5_000, "the connection to be forgotten");
  });

  it("carries a reset from either side to the other", async () => {
    const { target, proxy, client } = await setupTalking();
    target.sockets[0]?.resetAndDestroy();
    await client.closed();
    expect(client.seen.error).toBe("ECONNRESET");

    const second = dial(proxy);
    await second.receives("hello\n");
    second.socket.resetAndDestroy();
    await isReset(target.sockets[1]);
  });

  it("resets the client when the target refuses", async () => {
    const { proxy } = await setup();
    const gone = await startTcpProxy(1);
    await gone.close();
    proxy.retarget(gone.port);
    const client = dial(proxy);
    await client.closed();
    expect(client.seen.error).toBe("ECONNRESET");
  });
});

describe("freeze", () => {
  it("holds everything back, closes nothing, and loses nothing when it thaws", async () => {
    const { target, proxy, client } = await setupTalking();
    proxy.freeze();
    client.socket.write("a");
    target.sockets[0]?.write("b");
    await client.receivesNothingMore();
    proxy.thaw();
    await client.receivesBytes(8);
  });

  it("loses nothing of a large transfer that it interrupts again and again", async () => {
    const { proxy, client } = await setupTalking();
    const size = 8_000_000;
    client.socket.write("x".repeat(size));
    for (let step = 1; step <= 20; step += 1) {
      await client.receivesBytes((size * step) / 21);
      proxy.freeze();
      await new Promise(setImmediate);
      proxy.thaw();
    }
    await until(
      () => client.length() === 6 + size,
      5_000,
      () => `all: ${client.length()}`,
    );
  });

  it("accepts new connections and lets them through when it thaws", async () => {
    const { target, proxy } = await setup();
    proxy.freeze();
    const client = dial(proxy);
    client.socket.write("a");
    await client.receivesNothingMore();
    expect(proxy.accepted()).toBe(1);
    expect(target.sockets).toHaveLength(0);
    proxy.thaw();
    await client.receives("hello\na");
  });

  it("hides a reset until it thaws", async () => {
    const { target, proxy, client } = await setupTalking();
    proxy.freeze();
    target.sockets[0]?.resetAndDestroy();
    await client.receivesNothingMore();
    proxy.thaw();
    await client.closed();
    expect(client.seen.error).toBe("ECONNRESET");
  });

  it("hides an orderly end until it thaws", async () => {
    const { target, proxy, client } = await setupTalking();
    proxy.freeze();
    target.sockets[0]?.end("bye");
    await client.receivesNothingMore();
    proxy.thaw();
    await client.receives("hello\nbye");
    await client.closed();
    expect(client.seen).toEqual({ end: true, error: undefined });
  });
});

describe("blackhole", () => {
  it("swallows bytes and endings for ever, also after the thaw", async () => {
    const { target, proxy, client } = await setupTalking();
    proxy.blackhole();
    client.socket.write("a");
    target.sockets[0]?.write("b");
    await client.receivesNothingMore();
    proxy.thaw();
    target.sockets[0]?.end("c");
    await client.receivesNothingMore();
  });

  it("reads what it swallows, so that the sender never blocks", async () => {
    const { proxy, client } = await setupTalking();
    proxy.blackhole();
    const flushed = new Promise<void>((resolve) => {
      client.socket.write("x".repeat(40_000_000), () => resolve());
    });
    await within(flushed, 10_000, "40 MB to be swallowed");
  });

  it("accepts new connections and never answers them; those after the thaw work", async () => {
    const { proxy } = await setup();
    proxy.blackhole();
    const lost = dial(proxy);
    await lost.receivesNothingMore();
    proxy.thaw();
    await lost.receivesNothingMore();
    await dial(proxy).receives("hello\n");
  });

  it("sees that a client gave up, and does not tell the target", async () => {
    const { target, proxy, client } = await setupTalking();
    proxy.blackhole();
    client.socket.destroy();
    await until(() => proxy.connections() === 0, 5_000, "the client to be gone");
    proxy.thaw();
    expect(target.sockets[0]?.readableEnded).toBe(false);
    expect(target.sockets[0]?.destroyed).toBe(false);
  });
});

describe("cut", () => {
  it("resets every connection on both sides, frozen ones too, and takes new ones", async () => {
    const { target, proxy, client } = await setupTalking();
    proxy.freeze();
    proxy.cut();
    await client.closed();
    expect(client.seen.error).toBe("ECONNRESET");
    await isReset(target.sockets[0]);
    proxy.thaw();
    await dial(proxy).receives("hello\n");
  });
});

describe("refuse", () => {
  it("refuses new connections, keeps the open ones, and listens again on the same port", async () => {
    const { proxy, client } = await setupTalking();
    proxy.refuse();
    const refused = dial(proxy);
    await refused.closed();
    expect(refused.seen.error).toBe("ECONNREFUSED");
    client.socket.write("a");
    await client.receives("hello\na");
    await proxy.accept();
    await dial(proxy).receives("hello\n");
  });
});

describe("retarget", () => {
  it("sends new connections to the other port and leaves the open ones where they are", async () => {
    const { proxy, client } = await setupTalking();
    const other = await startEcho("other\n");
    proxy.retarget(other.port);
    await dial(proxy).receives("other\n");
    client.socket.write("a");
    await client.receives("hello\na");
  });
});

describe("close", () => {
  it("cuts everything, in any mode, and frees the port", async () => {
    const { proxy, client } = await setupTalking();
    proxy.blackhole();
    await within(proxy.close(), 5_000, "the proxy to close");
    await client.closed();
    const refused = dial(proxy);
    await refused.closed();
    expect(refused.seen.error).toBe("ECONNREFUSED");
  });

  it("cuts also what is just being ended", async () => {
    const { target, proxy, client } = await setupTalking();
    const bystander = connect(target.port, "127.0.0.1");
    await once(bystander, "data");
    // Both ends arrive in one turn of the loop, so the proxy closes while it passes one of them on.
    const closing = new Promise<void>((resolve) => {
      target.sockets.at(-1)?.once("end", () => resolve(proxy.close()));
    });
    client.socket.end();
    bystander.end();
    await within(closing, 5_000, "the proxy to close");
    await client.closed();
  });
});
