// Bodies of requests: read within bounds, so that a sender of too much hears what is wrong with it.

/** Most bytes read of a body, kept or not. */
const MAX_READ_BYTES = 100_000_000;

/**
 * The body, undefined when it has more than `limit` bytes. It is read to its end even then, but not kept: a sender that
 * is cut off while it writes does not get to see the answer.
 */
export async function readBody(request: Request, limit: number): Promise<Uint8Array | undefined> {
  const told = Number(request.headers.get("content-length"));
  if (told > MAX_READ_BYTES) return undefined;
  // At once where it may be: each chunk that comes alone wakes this worker anew.
  if (told > 0 && told <= limit) return new Uint8Array(await request.arrayBuffer());
  let kept: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > MAX_READ_BYTES) return undefined;
    if (size <= limit) kept.push(chunk);
    else kept = [];
  }
  return size > limit ? undefined : joined(kept, size);
}

function joined(chunks: Uint8Array[], size: number): Uint8Array {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}
