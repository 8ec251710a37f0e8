import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export type HttpFixture = {
  readonly server: Server;
  readonly port: number;
  /** "http://127.0.0.1:<port>", without a slash at the end. */
  readonly url: string;
  /** Cuts every connection, open streams too, and resolves when the port is free. */
  close(): Promise<void>;
};

/** Serves `listener` on a free port of the loopback: a stand-in for any HTTP server a test needs. */
export async function serveHttp(listener: RequestListener): Promise<HttpFixture> {
  const server = createServer(listener);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    server,
    port,
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((resolve, reject) => {
        server.close((error) => (error === undefined ? resolve() : reject(error)));
        server.closeAllConnections();
      }),
  };
}
