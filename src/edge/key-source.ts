// Where keys are published: the fetch behind REALTIME_JWKS_URL.
import { waitUntil } from "cloudflare:workers";
import { type Jwk, PATIENCE_MS, parseKeySet } from "../auth/key-set.ts";
import { parseJson } from "../protocol/json.ts";

const MAX_BYTES = 1_000_000;

/** A function that fetches the key set of a URL. It rejects when that fails, and has said so in the log then. */
export function keySource(url: string): () => Promise<readonly Jwk[]> {
  return () => {
    const keys = load(url);
    // Others wait for this answer too: it must come even if the client whose token asked for it goes away.
    waitUntil(keys.catch(() => {}));
    return keys;
  };
}

async function load(url: string): Promise<readonly Jwk[]> {
  try {
    // A redirect is not followed: it could lead from https to anywhere.
    const response = await fetch(url, {
      headers: { accept: "application/json, application/jwk-set+json" },
      redirect: "manual",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const text = await readText(response);
    if (response.status !== 200) throw new Error(`it answers ${response.status}`);
    const keys = parseKeySet(parseJson(text));
    if (keys === undefined) throw new Error('what it answers is no key set, {"keys":[…]}');
    return keys;
  } catch (error) {
    console.warn(JSON.stringify({ event: "keys not fetched", setting: "REALTIME_JWKS_URL", reason: String(error) }));
    throw error;
  }
}

async function readText({ body }: Response): Promise<string> {
  const decoder = new TextDecoder();
  let [text, size] = ["", 0];
  for await (const chunk of body ?? []) {
    size += chunk.byteLength;
    if (size > MAX_BYTES) throw new Error(`its answer is larger than ${MAX_BYTES} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
