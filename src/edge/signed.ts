// What the listener posts: read to its end, its signature checked.
import { MAX_BATCH_BYTES } from "../protocol/changes.ts";
import { readBody } from "./body.ts";
import { type Env, settingsOf } from "./env.ts";

/** How far the listener's clock may be off, seconds; an older request may be a replayed one. */
const MAX_SKEW_S = 300;

/** The body of a request that the listener has signed, or the answer that refuses it: 413, 401. */
export async function readSigned(request: Request, env: Env): Promise<string | Response> {
  const bytes = await readBody(request, MAX_BATCH_BYTES);
  if (bytes === undefined) return refuse(413, `a batch holds at most ${MAX_BATCH_BYTES} bytes`);
  // Byte for byte as it was signed, so a byte order mark stays.
  const body = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes);
  const fault = await signatureFault(request.headers, body, settingsOf(env).listenerSecret);
  return fault === undefined ? body : refuse(401, fault);
}

export function refuse(status: number, error: string): Response {
  return Response.json({ error }, { status });
}

async function signatureFault(headers: Headers, body: string, secret: string): Promise<string | undefined> {
  const timestamp = headers.get("x-nself-timestamp") ?? "";
  const signature = fromHex(headers.get("x-nself-signature") ?? "");
  if (timestamp === "" || signature === undefined) return "x-nself-timestamp and x-nself-signature are needed";
  const skew = Math.abs(Date.now() / 1000 - Number(timestamp));
  if (!(skew <= MAX_SKEW_S)) return "x-nself-timestamp is no unix time, or too far from now: check the clocks";
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), algorithm, false, ["verify"]);
  const valid = await crypto.subtle.verify("HMAC", key, signature, encoder.encode(`${timestamp}.${body}`));
  return valid
    ? undefined
    : "the signature is wrong: REALTIME_LISTENER_SECRET must be the same here and at the listener";
}

function fromHex(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[0-9a-f]{64}$/i.test(text)) return undefined;
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}
