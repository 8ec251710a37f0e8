import type { StreamToken } from "../protocol/stream-token.ts";
import { mayReadAll } from "./access.ts";
import { type Caller, CLOCK_TOLERANCE_SECONDS } from "./auth/caller.ts";
import type { MintStreamToken, StreamGrant } from "./auth/stream-token.ts";

/** What a viewer of it may watch, for as long as who asks for it may. */
export async function viewerToken(
  mint: MintStreamToken,
  caller: Caller,
  grant: Omit<StreamGrant, "isForOneViewer" | "notAfter">,
): Promise<StreamToken> {
  const { token, exp } = await mint({
    ...grant,
    isForOneViewer: mayReadAll(caller),
    notAfter: caller.expiresAt - CLOCK_TOLERANCE_SECONDS * 1_000,
  });
  return { token, expiresAt: new Date(exp * 1_000).toISOString() };
}

/** JSON of what was made, with such a token if it was asked for. */
export function withToken(json: string, token: StreamToken | undefined): string {
  return token ? `${json.slice(0, -1)},"streamToken":${JSON.stringify(token)}}` : json;
}
