// What the listener posts: read to its end, its signature checked.
import { MAX_BATCH_BYTES } from "../protocol/changes.ts";
import { readBody } from "./body.ts";
import { type Env, settingsOf } from "./env.ts";

/** How far the listener's clock may be off, seconds; an older request may be a replayed one. */
const MAX_SKEW_S = 300;

/** The body of a request that the listener has signed, or the answer that refuses it: 413, 401. */
export async function readSigned(request: Request, env: Env): Promise<string | Response> {
  const signature = signatureOf(request.headers);
  // Before anything of the body is kept.
  if (typeof signature === "string") return refuse(401, signature);
  const bytes = await readBody(request, MAX_BATCH_BYTES);
  if (bytes === undefined) return refuse(413, `a batch holds at most ${MAX_BATCH_BYTES} bytes`);
  if (!(await isSigned(signature, bytes, settingsOf(env).listenerSecret))) {
    return refuse(401, "the signature is wrong: REALTIME_LISTENER_SECRET must be the same here and at the listener");
  }
  // Byte for byte as it was signed, so a byte order mark stays.
  return new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes);
}

export function refuse(status: number, error: string): Response {
  return Response.json({ error }, { status });
}

interface Signature {
  readonly timestamp: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The signature that a request carries, or what is wrong with it. */
function signatureOf(headers: Headers): Signature | string {
  const timestamp = headers.get("x-nself-timestamp") ?? "";
  const bytes = fromHex(headers.get("x-nself-signature") ?? "");
  if (timestamp === "" || bytes === undefined) return "x-nself-timestamp and x-nself-signature are needed";
  const skew = Math.abs(Date.now() / 1000 - Number(timestamp));
  if (!(skew <= MAX_SKEW_S)) return "x-nself-timestamp is no unix time, or too far from now: check the clocks";
  return { timestamp, bytes };
}

async function isSigned({ timestamp, bytes }: Signature, body: Uint8Array, secret: string): Promise<boolean> {
  const head = encoder.encode(`${timestamp}.`);
  const signed = new Uint8Array(head.length + body.length);
  signed.set(head);
  signed.set(body, head.length);
  return crypto.subtle.verify("HMAC", await keyOf(secret), bytes, signed);
}

const encoder = new TextEncoder();
let known: { readonly secret: string; readonly key: Promise<CryptoKey> } | undefined;

/** The key that a secret makes: the same one until the secret is another. */
function keyOf(secret: string): Promise<CryptoKey> {
  if (known?.secret !== secret) {
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    known = { secret, key: crypto.subtle.importKey("raw", encoder.encode(secret), algorithm, false, ["verify"]) };
  }
  return known.key;
}

function fromHex(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[0-9a-f]{64}$/i.test(text)) return undefined;
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}
