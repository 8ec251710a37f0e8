import type { Request } from "express";
import ipaddr from "ipaddr.js";

/** The bits of an IPv6 address that tell one customer from another: he has all that follow. */
const IPV6_BITS = 64;

/**
 * Whom a request comes from, to be counted: an IPv4 address, or the network of an IPv6 address.
 * @param trustedProxies how many proxies of one's own are in front: each adds to X-Forwarded-For, and
 *   what stands before their entries may be made up
 */
export function addressOf(req: Request, trustedProxies: number): string {
  const passed = (req.get("x-forwarded-for") ?? "").split(",").map((each) => each.trim());
  const forwarded = trustedProxies === 0 ? undefined : passed.at(-trustedProxies);
  return networkOf(forwarded || req.socket.remoteAddress || "");
}

function networkOf(address: string): string {
  const bare = address.replace(/^\[(.*)\](:\d+)?$/, "$1").replace(/^([\d.]+):\d+$/, "$1");
  if (!ipaddr.isValid(bare)) return bare;
  const parsed = ipaddr.process(bare);
  if (parsed.kind() === "ipv4") return parsed.toString();
  return ipaddr.IPv6.networkAddressFromCIDR(`${parsed.toString()}/${IPV6_BITS}`).toString();
}
