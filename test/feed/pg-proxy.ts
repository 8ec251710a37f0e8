import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A proxy that understands PostgreSQL's messages well enough to misbehave as servers and poolers do. */
export type PgProxy = {
  readonly port: number;
  /** The text of every statement that came, whatever became of it. */
  readonly statements: readonly string[];
  /** The next ones that LISTEN are answered with errors of these SQLSTATEs and do not reach the server. */
  refuseListen(...codes: string[]): void;
  /**
   * Whether it is like a transaction pooler: notifications do not reach the client, and it is told a
   * process that is not the server's.
   */
  isSilent: boolean;
  /**
   * From the next transaction of each client on its server is another one, which lets everybody in;
   * no client hears of it.
   */
  retarget(port: number): void;
  close(): Promise<void>;
};

const QUERY = "Q".charCodeAt(0);
const PARSE = "P".charCodeAt(0);
const NOTIFICATION_RESPONSE = "A".charCodeAt(0);
const BACKEND_KEY_DATA = "K".charCodeAt(0);
const READY_FOR_QUERY = "Z".charCodeAt(0);
const IDLE = "I".charCodeAt(0);

export async function startPgProxy(targetPort: number): Promise<PgProxy> {
  const sockets = new Set<Socket>();
  const refusals: string[] = [];
  const statements: string[] = [];
  let isSilent = false;
  let target = targetPort;

  const server = createServer((client) => {
    let startup: Buffer | undefined;
    let place = target;
    let isIdle = false;
    /** What came from the client while its connection to the server is made anew. */
    let waiting: Buffer[] | undefined;
    let upstream = connectTo(place);

    function connectTo(port: number): Socket {
      const socket = connect(port, "127.0.0.1");
      hold(socket, client, () => socket === upstream);
      const fromServer = splitMessages((message) => {
        const isReady = message[0] === READY_FOR_QUERY;
        isIdle = isReady && message[5] === IDLE;
        if (waiting) {
          // The client has been let in long ago.
          if (isReady) for (const each of waiting.splice(0)) socket.write(each);
          if (isReady) waiting = undefined;
          return;
        }
        if (isSilent && message[0] === NOTIFICATION_RESPONSE) return;
        // The process follows the type and the length.
        if (isSilent && message[0] === BACKEND_KEY_DATA) message.writeUInt32BE(1, 5);
        client.write(message);
      });
      socket.on("data", fromServer);
      return socket;
    }

    /** As a transaction pooler whose servers were changed: between two transactions. */
    function moveOn(): void {
      const before = upstream;
      waiting = [];
      place = target;
      upstream = connectTo(place);
      before.destroy();
      if (startup) upstream.write(startup);
    }

    hold(client, undefined, () => true);
    client.once("close", () => upstream.destroy());
    // The startup packet, the first of a client, has no type.
    const fromClient = splitMessages((message) => {
      startup ??= Buffer.from(message);
      const sql = statementOf(message);
      if (sql !== undefined) statements.push(sql);
      const code = /^listen /i.test(sql ?? "") ? refusals.shift() : undefined;
      if (place !== target && isIdle) moveOn();
      if (code !== undefined) client.write(errorResponse(code));
      else if (waiting) waiting.push(Buffer.from(message));
      else upstream.write(message);
    }, true);
    client.on("data", fromClient);
  });

  /** @param isCurrent whether its end is the end of the other one */
  function hold(socket: Socket, other: Socket | undefined, isCurrent: () => boolean): void {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => undefined); // the close that follows tells the other side
    socket.once("close", () => {
      sockets.delete(socket);
      if (isCurrent()) other?.destroy();
    });
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  return {
    port: (server.address() as AddressInfo).port,
    statements,
    refuseListen: (...codes) => void refusals.push(...codes),
    get isSilent() {
      return isSilent;
    },
    set isSilent(value) {
      isSilent = value;
    },
    retarget(port) {
      target = port;
    },
    async close() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Cuts a stream of bytes into the protocol's messages: a type of one byte, a length, a body. */
function splitMessages(onMessage: (message: Buffer) => void, beginsUntyped = false) {
  let rest: Buffer = Buffer.alloc(0);
  let typeLength = beginsUntyped ? 0 : 1;
  return (chunk: Buffer): void => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= typeLength + 4) {
      const end = typeLength + rest.readUInt32BE(typeLength);
      if (rest.length < end) return;
      onMessage(rest.subarray(0, end));
      rest = rest.subarray(end);
      typeLength = 1;
    }
  };
}

/** The text in a message of the simple or of the extended protocol, where a name precedes it. */
function statementOf(message: Buffer): string | undefined {
  const [first = "", second = ""] = message.toString("utf8", 5).split("\0");
  if (message[0] === QUERY) return first;
  return message[0] === PARSE ? second : undefined;
}

/** An error, and that the next query may come. */
function errorResponse(code: string): Buffer {
  const fields = Buffer.from(`SERROR\0VERROR\0C${code}\0Mrefused by the test\0\0`);
  const head = Buffer.from("E\0\0\0\0");
  head.writeUInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields, Buffer.from("Z\0\0\0\x05I")]);
}
