// Addresses: where the socket is, and where to ask why it could not be opened.
import { RealtimeError } from "./errors.ts";

const SOCKET = "/websocket";
const PREFIXES = ["/realtime/v1", "/socket"];

/** The URL of the socket for a server's URL, with or without its path. Throws RealtimeError. */
export function socketAddress(url: string, apiKey: string): URL {
  if (apiKey === "") throw new RealtimeError("invalid_options", "apiKey is empty");
  const address = parse(url);
  address.protocol = address.protocol.replace(/^http/, "ws");
  if (address.protocol !== "ws:" && address.protocol !== "wss:") {
    throw new RealtimeError("invalid_options", `The url ${url} does not begin with ws, wss, http or https`);
  }
  const path = address.pathname.replace(/\/+$/, "");
  const isWhole = path.endsWith(SOCKET);
  const prefix = PREFIXES.some((one) => path.endsWith(one)) ? path : `${path}${PREFIXES[0]}`;
  address.pathname = isWhole ? path : `${prefix}${SOCKET}`;
  address.searchParams.set("apikey", apiKey);
  address.searchParams.set("vsn", "2.0.0");
  // Many frames as one, which is what a burst costs least as.
  address.searchParams.set("packed", "true");
  return address;
}

function parse(url: string): URL {
  try {
    return new URL(url);
  } catch {
    throw new RealtimeError("invalid_options", `The url ${JSON.stringify(url)} is none, such as ws://localhost:4000`);
  }
}

/**
 * Finds out why a socket could not be opened: browsers do not say. Any HTTP request with the same key shows whether the
 * server is there and takes it.
 */
export async function diagnose(address: URL, apiKey: string, timeoutMs: number): Promise<RealtimeError> {
  const url = new URL(address);
  url.protocol = url.protocol.replace(/^ws/, "http");
  url.pathname = url.pathname.replace(/\/websocket$/, "/api/broadcast");
  url.search = "";
  const where = url.origin;
  try {
    const request = { method: "POST", headers: { apikey: apiKey }, body: "{}", signal: AbortSignal.timeout(timeoutMs) };
    const { status } = await fetch(url, request);
    if (status === 401) return new RealtimeError("unauthorized", `The server at ${where} refused the apiKey`);
    const reason = "it is full, or this address connects too often or may not connect";
    return new RealtimeError("unreachable", `The server at ${where} opened no socket: ${reason}`);
  } catch {
    return new RealtimeError("unreachable", `The server at ${where} cannot be reached`);
  }
}
