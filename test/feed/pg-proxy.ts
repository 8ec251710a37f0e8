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
  close(): Promise<void>;
};

const QUERY = "Q".charCodeAt(0);
const PARSE = "P".charCodeAt(0);
const NOTIFICATION_RESPONSE = "A".charCodeAt(0);
const BACKEND_KEY_DATA = "K".charCodeAt(0);

export async function startPgProxy(targetPort: number): Promise<PgProxy> {
  const sockets = new Set<Socket>();
  const refusals: string[] = [];
  const statements: string[] = [];
  let isSilent = false;

  const server = createServer((client) => {
    const upstream = connect(targetPort, "127.0.0.1");
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => undefined); // the close that follows tells the other side
      socket.once("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    // The startup packet, the first of a client, has no type.
    const fromClient = splitMessages((message) => {
      const sql = statementOf(message);
      if (sql !== undefined) statements.push(sql);
      const code = /^listen /i.test(sql ?? "") ? refusals.shift() : undefined;
      if (code === undefined) upstream.write(message);
      else client.write(errorResponse(code));
    }, true);
    const fromServer = splitMessages((message) => {
      if (isSilent && message[0] === NOTIFICATION_RESPONSE) return;
      // The process follows the type and the length.
      if (isSilent && message[0] === BACKEND_KEY_DATA) message.writeUInt32BE(1, 5);
      client.write(message);
    });
    client.on("data", fromClient);
    upstream.on("data", fromServer);
  });
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
