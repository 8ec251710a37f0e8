import { connect } from "node:net";
import { DEFAULT_DEADLINE_MS, within } from "./deadline.ts";

export type RawAnswer = {
  bytes: Buffer;
  /** The bytes as UTF-8. */
  text: string;
  /** "end": the server said goodbye; "reset": it tore the connection down; "open": it did neither. */
  ending: "end" | "reset" | "open";
};

export type RawRequestOptions = {
  /** Enough has come, although the server keeps the connection open. Default: wait for its end. */
  isComplete?: (text: string) => boolean;
  /** Sends FIN after the bytes, as a client that has nothing more to say. Default: stays open. */
  half?: boolean;
  /** Default 10 s. */
  deadlineMs?: number;
};

/**
 * Writes the bytes as they are to a socket on the loopback and gives back the bytes that come: for
 * what an HTTP client would tidy up first, such as half a request, two at once or a bad Host.
 *
 * Resolves when the server closes, or as soon as `isComplete`; the socket is closed by then.
 *
 * @throws {DeadlineError} with what did come, when neither happens in time.
 * @throws the error of the socket when there is no connection.
 */
export async function rawRequest(
  port: number,
  request: string | Uint8Array,
  { isComplete, half = false, deadlineMs = DEFAULT_DEADLINE_MS }: RawRequestOptions = {},
): Promise<RawAnswer> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const chunks: Buffer[] = [];
  const received = () => Buffer.concat(chunks).toString("utf8");

  const ending = new Promise<RawAnswer["ending"]>((resolve, reject) => {
    let isConnected = false;
    socket.once("connect", () => {
      isConnected = true;
      if (half) socket.end(request);
      else socket.write(request);
    });
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      if (isComplete?.(received())) resolve("open");
    });
    socket.once("end", () => resolve("end"));
    // After the connection stands, a reset is one of the answers that a server may give.
    socket.on("error", (error) => (isConnected ? resolve("reset") : reject(error)));
  });

  try {
    const how = await within(
      ending,
      deadlineMs,
      () => `the end of a raw answer; so far: ${JSON.stringify(received())}`,
    );
    return { bytes: Buffer.concat(chunks), text: received(), ending: how };
  } finally {
    socket.destroy();
  }
}
