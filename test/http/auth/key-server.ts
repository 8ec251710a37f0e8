import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { type HttpFixture, serveHttp } from "../../support/http-fixture.ts";

export type SigningKey = {
  readonly kid: string | undefined;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
};

export type KeyServer = HttpFixture & {
  /** What it answers from the next request on; "down" cuts the connection. */
  serve(answer: readonly SigningKey[] | string | "down"): void;
  readonly requests: () => number;
};

export function makeRsaKey(kid?: string): SigningKey {
  return { kid, ...generateKeyPairSync("rsa", { modulusLength: 2048 }) };
}

export function makeEcKey(kid: string, namedCurve: "P-256" | "P-384" = "P-256"): SigningKey {
  return { kid, ...generateKeyPairSync("ec", { namedCurve }) };
}

export function makeEdKey(kid: string): SigningKey {
  return { kid, ...generateKeyPairSync("ed25519") };
}

/** An identity provider's key set, as far as anybody who checks tokens sees of it. */
export async function serveKeys(first: readonly SigningKey[]): Promise<KeyServer> {
  let answer: readonly SigningKey[] | string = first;
  let requests = 0;
  const fixture = await serveHttp((req, res) => {
    requests += 1;
    if (answer === "down") return req.socket.destroy();
    res.setHeader("content-type", "application/json");
    res.end(typeof answer === "string" ? answer : JSON.stringify({ keys: answer.map(toJwk) }));
  });
  return {
    ...fixture,
    requests: () => requests,
    serve(next) {
      answer = next;
    },
  };
}

function toJwk({ kid, publicKey }: SigningKey): object {
  return { ...publicKey.export({ format: "jwk" }), use: "sig", ...(kid !== undefined && { kid }) };
}
