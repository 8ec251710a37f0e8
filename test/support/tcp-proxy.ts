import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/**
 * How the proxy treats what passes through it:
 *
 *   forward    bytes and endings go both ways
 *   freeze     nothing is read: bytes wait where they are and go on when it thaws
 *   blackhole  bytes are read and thrown away, as by a firewall that forgot the connection
 */
type Mode = "forward" | "freeze" | "blackhole";

/** One connection through the proxy. `upstream` comes when the mode first lets it. */
type Link = { client: Socket; upstream?: Socket; isLost: boolean };

export type TcpProxy = {
  /** Where it listens on 127.0.0.1. */
  readonly port: number;
  /** How many connections clients have open to it. In a freeze it does not see them go. */
  connections(): number;
  /** How many connections it has ever accepted. */
  accepted(): number;
  /** Stops both directions and closes nothing; new connections are accepted and never answered. */
  freeze(): void;
  /**
   * As `freeze`, but throws away what comes. The connections it caught are dead for ever, as half
   * open ones are: neither side hears of the other again, not even of its end.
   */
  blackhole(): void;
  /** Forwards again: frozen connections lose nothing; black-holed ones stay lost. */
  thaw(): void;
  /** Tears down every connection, on both sides, with a reset. */
  cut(): void;
  /** Listens no more, so that new connections are refused; the open ones stay. */
  refuse(): void;
  /**
   * Listens again, on the same port.
   *
   * @throws EADDRINUSE if something else has taken the port meanwhile.
   */
  accept(): Promise<void>;
  /** Sends the connections that come from now on to another port. */
  retarget(port: number): void;
  /** Cuts everything and stops. */
  close(): Promise<void>;
};

/** Starts a TCP proxy on the loopback, in front of `targetPort` there, that can misbehave. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const links = new Set<Link>();
  let mode: Mode = "forward";
  let target = targetPort;
  let accepted = 0;

  function onConnection(client: Socket): void {
    accepted += 1;
    const link: Link = { client, isLost: false };
    links.add(link);
    watch(link, client);
    apply(link);
  }

  /** Brings one connection to what the mode asks for. */
  function apply(link: Link): void {
    if (mode === "blackhole") link.isLost = true;
    if (link.isLost) return swallow(link);
    if (mode === "freeze") return hold(link);
    link.upstream ??= dial(link);
    // One side may have been reset in the freeze; the other hears of it now that the path is open.
    if (link.client.errored !== null || link.upstream.errored !== null) return tearDown(link);
    link.client.pipe(link.upstream);
    link.upstream.pipe(link.client);
  }

  function dial(link: Link): Socket {
    const upstream = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
    upstream.setNoDelay(true);
    watch(link, upstream);
    return upstream;
  }

  function watch(link: Link, socket: Socket): void {
    // What a failure means for the other side depends on the mode: see the close that follows it.
    socket.on("error", () => undefined);
    socket.once("close", (isFailure) => {
      // An orderly end has gone through the pipe by now, behind the last byte.
      if (isFailure && mode === "forward" && !link.isLost) tearDown(link);
      if (link.client.destroyed && (link.upstream?.destroyed ?? true)) links.delete(link);
    });
  }

  function enter(next: Mode): void {
    mode = next;
    for (const link of links) apply(link);
  }

  function cut(): void {
    for (const link of links) tearDown(link);
  }

  let server = await listen(0, onConnection);
  const { port } = server.address() as AddressInfo;

  return {
    port,
    connections: () => [...links].filter(({ client }) => !client.readableEnded).length,
    accepted: () => accepted,
    freeze: () => enter("freeze"),
    blackhole: () => enter("blackhole"),
    thaw: () => enter("forward"),
    cut,
    refuse() {
      server.close();
    },
    async accept() {
      if (!server.listening) server = await listen(port, onConnection);
    },
    retarget(next) {
      target = next;
    },
    async close() {
      server.close();
      const closings = [...links].flatMap(({ client, upstream }) => [client, upstream]).map(closed);
      cut();
      await Promise.all(closings);
    },
  };
}

async function listen(port: number, onConnection: (client: Socket) => void): Promise<Server> {
  const options = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true };
  const server = createServer(options, onConnection);
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

function hold({ client, upstream }: Link): void {
  if (upstream === undefined) return;
  client.unpipe(upstream).pause();
  upstream.unpipe(client).pause();
}

function swallow({ client, upstream }: Link): void {
  client.unpipe().resume();
  upstream?.unpipe().resume();
}

function tearDown({ client, upstream }: Link): void {
  reset(client);
  if (upstream) reset(upstream);
}

function reset(socket: Socket): void {
  if (socket.destroyed) return;
  // A socket that is being shut down takes no reset (EINVAL), and Node then never closes it.
  const isShutting = socket.writableEnded && !socket.writableFinished && !socket.writableLength;
  if (isShutting) socket.once("finish", () => reset(socket));
  else socket.resetAndDestroy();
}

function closed(socket: Socket | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (socket === undefined || socket.closed) resolve();
    else socket.once("close", () => resolve());
  });
}
