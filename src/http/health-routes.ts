import express, { type Response, type Router } from "express";

/** Whether this process should be sent requests, and what an operator should know beside it. */
export type Readiness = { readonly ready: boolean; readonly [detail: string]: unknown };

/**
 * `GET /healthz`: the process lives, so do not restart it. `GET /readyz`: 503 while it should get
 * no traffic. Both without a token, because what asks has none.
 */
export function createHealthRouter({ readiness }: { readiness(): Readiness }): Router {
  const router = express.Router();
  router.get("/healthz", (_req, res) => send(res, 200, { status: "ok" }));
  router.get("/readyz", (_req, res) => {
    const answer = readiness();
    send(res, answer.ready ? 200 : 503, answer);
  });
  return router;
}

function send(res: Response, status: number, body: object): void {
  res.status(status).set("Cache-Control", "no-store").json(body);
}
