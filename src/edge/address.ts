// Addresses: whose request it is, as far as rates go.
import * as z from "zod";

/** Most addresses of which one isolate remembers what they did. */
export const MAX_ADDRESSES = 10_000;

const ipv4 = z.ipv4();
const ipv6 = z.ipv6();

/** Where a request comes from. */
export interface Origin {
  /** An IPv4 address, or the /64 network of an IPv6 one: whoever has one of its addresses has all of them. */
  readonly network: string;
  /** This machine itself: its own programs, or a proxy that hides who asks. */
  readonly local: boolean;
}

/** What is read of a request. */
interface Asked {
  readonly headers: Headers;
  /** What the platform says of it. */
  readonly cf?: object | undefined;
}

/**
 * Where a request comes from; undefined when the platform does not say. `header` names the header in which a proxy in
 * front says it: only the last address there is the proxy's own word, all before it are whatever the client sent.
 */
export function originOf(request: Asked, header: string | undefined): Origin | undefined {
  const named = header === undefined ? undefined : networkOf(request.headers.get(header)?.split(",").at(-1));
  // What the proxy says is no longer this machine, whatever it says.
  if (named !== undefined) return { network: named, local: false };
  const network = networkOf(peerOf(request));
  if (network === undefined) return undefined;
  return { network, local: header === undefined && (network.startsWith("127.") || network === LOOPBACK_NETWORK) };
}

/** The other end of the connection: workerd tells it in `cf`, Cloudflare in a header that no client can set there. */
function peerOf({ headers, cf }: Asked): string | undefined {
  if (cf === undefined) return undefined;
  if ("clientIp" in cf && typeof cf.clientIp === "string") return cf.clientIp;
  return headers.get("cf-connecting-ip") ?? undefined;
}

/** The /64 of ::1, in which nobody else lives. */
const LOOPBACK_NETWORK = "0:0:0:0";
const MAPPED = /^0:0:0:0:0:ffff:([0-9a-f]+):([0-9a-f]+)$/;

/** The network of an address that may have a port, `1.2.3.4:5`, `[::1]:5`; undefined when it is no address. */
export function networkOf(text: string | undefined): string | undefined {
  const given = text?.trim() ?? "";
  const [, bracketed] = /^\[([^\]]*)\](?::\d+)?$/.exec(given) ?? [];
  const address = (bracketed ?? given).replace(/^([\d.]+):\d+$|%.*$/, "$1");
  if (ipv4.safeParse(address).success) return address;
  if (!ipv6.safeParse(address).success) return undefined;
  const groups = groupsOf(address);
  const [, high, low] = MAPPED.exec(groups.join(":")) ?? [];
  return high === undefined || low === undefined ? groups.slice(0, 4).join(":") : dotted(high, low);
}

/** The eight groups of an IPv6 address, each without leading zeros. */
function groupsOf(address: string): string[] {
  // The URL parser writes every address in one way.
  const [head = "", tail = ""] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const [first, last] = [head, tail].map((part) => (part === "" ? [] : part.split(":")));
  const zeros = Array<string>(8 - (first?.length ?? 0) - (last?.length ?? 0)).fill("0");
  return [...(first ?? []), ...zeros, ...(last ?? [])];
}

/** The IPv4 address that two groups of an IPv6 address hold. */
function dotted(high: string, low: string): string {
  return [high, low]
    .map((group) => Number.parseInt(group, 16))
    .flatMap((group) => [group >> 8, group & 255])
    .join(".");
}
