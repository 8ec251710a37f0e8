import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import express, { type Request, type Response } from "express";
import { createAuth } from "../../../src/http/auth/auth.ts";
import { callerOf } from "../../../src/http/auth/caller.ts";
import { createStreamTokenMint } from "../../../src/http/auth/stream-token.ts";
import { problemHandler } from "../../../src/http/problem.ts";
import { createLog } from "../../../src/log.ts";
import { TEST_SECRET } from "../../support/tokens.ts";

export type AuthApp = {
  readonly server: Server;
  readonly port: number;
  readonly url: string;
  /** Everything that was logged, one line each. */
  readonly lines: string[];
  readonly mint: ReturnType<typeof createStreamTokenMint>;
  close(): Promise<void>;
};

type Options = Partial<Omit<Parameters<typeof createAuth>[0], "log">>;

export const STREAM_TOKEN_KEY = Buffer.alloc(32, "stream-token-key");

/** Serves `/api` and `/streams`, which answer with the caller that authentication found. */
export async function serveAuth(options: Options = {}): Promise<AuthApp> {
  const lines: string[] = [];
  const log = createLog("trace", { write: (line) => void lines.push(line) });
  const { streamTokenKey = { read: async () => STREAM_TOKEN_KEY, isCurrent: () => true } } =
    options;
  const jwt = { secret: TEST_SECRET };
  const auth = createAuth({ jwt, corsOrigins: [], ...options, streamTokenKey, log });

  const app = express();
  app.all("/api", auth.api, showCaller);
  app.all("/streams", auth.streams, showCaller);
  app.use(problemHandler(log));

  // Node refuses more than 16 KB by itself, with a 431; here the token is to get as far as our code.
  const server = createServer({ maxHeaderSize: 1_048_576 }, app);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    server,
    port,
    url: `http://127.0.0.1:${port}`,
    lines,
    mint: createStreamTokenMint(() => streamTokenKey.read()),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function showCaller(_req: Request, res: Response): void {
  const { scopes, jobs, ...caller } = callerOf(res);
  res.json({ ...caller, scopes: [...scopes], jobs: jobs ? [...jobs] : null });
}

/** Whole seconds since the epoch, `seconds` from now. */
export function inSeconds(seconds: number): number {
  return Math.floor(Date.now() / 1000) + seconds;
}
