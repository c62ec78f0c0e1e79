// Key sets (JWKS, RFC 7517): the keys that tokens name by `kid`, given as they are or fetched from where they are published.
import * as z from "zod";

/** Keys of one set that are looked at. */
const MAX_KEYS = 100;
/** How long one fetched set holds before it is fetched anew: a key that was withdrawn counts this much longer. */
const FRESH_MS = 300_000;
/** A `kid` that is in no set has the set fetched, but no sooner than this after the last time: anybody can make one up. */
export const COOLDOWN_MS = 10_000;
/** How long a token waits for a fetch. Less than the cooldown, so that a late answer never undoes a newer one. */
export const PATIENCE_MS = 5_000;

const text = z.string().min(1);
/** Members that say what a key is for; one that is for something else is no key of ours. */
const purpose = {
  kid: text,
  alg: z.string().exactOptional(),
  use: z.literal("sig").exactOptional(),
  // What signs has a public part that verifies.
  key_ops: z
    .array(z.string())
    .refine((operations) => operations.includes("verify") || operations.includes("sign"))
    .transform(() => ["verify"])
    .exactOptional(),
};
// Nothing beside these members is kept: of a private key that somebody put into the set, only the public part is used.
const jwkSchema = z.discriminatedUnion("kty", [
  z.object({ ...purpose, kty: z.literal("oct"), k: text }),
  z.object({ ...purpose, kty: z.literal("RSA"), n: text, e: text }),
  z.object({ ...purpose, kty: z.literal("EC"), crv: text, x: text, y: text }),
  z.object({ ...purpose, kty: z.literal("OKP"), crv: text, x: text }),
]);

/** A key that verifies: a shared secret (`oct`), or the public part of a pair. */
export type Jwk = z.infer<typeof jwkSchema>;

const keySetSchema = z.object({ keys: z.array(z.unknown()).max(MAX_KEYS) });

/** Reads a key set. Entries that are of no use here are left out; undefined: the value is no key set, or too large a one. */
export function parseKeySet(value: unknown): readonly Jwk[] | undefined {
  const set = keySetSchema.safeParse(value);
  if (!set.success) return undefined;
  return set.data.keys
    .map((entry) => jwkSchema.safeParse(entry))
    .flatMap(({ data }) => (data === undefined ? [] : [data]));
}

export class KeySet {
  readonly #given: readonly Jwk[];
  readonly #load: (() => Promise<readonly Jwk[]>) | undefined;
  #fetched: readonly Jwk[] = [];
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #askedAt = Number.NEGATIVE_INFINITY;
  /** The last fetch; it never rejects. */
  #fetching: Promise<void> = Promise.resolve();

  /**
   * `load` fetches the set that is published somewhere. It is called when a key is first needed that was not given, and
   * may reject: then the keys that it brought before stay.
   */
  constructor(given: readonly Jwk[] = [], load?: () => Promise<readonly Jwk[]>) {
    this.#given = given;
    this.#load = load;
  }

  /** The shared secret of a `kid`. It counts only if it was given: a secret that can be fetched is none. */
  secret(kid: string): Jwk | undefined {
    return find(this.#given, "oct", kid);
  }

  /** The public key of a `kid`; undefined when there is none, after looking where keys are published. `now` is unix ms. */
  async publicKey(kty: Exclude<Jwk["kty"], "oct">, kid: string, now: number): Promise<Jwk | undefined> {
    const given = find(this.#given, kty, kid);
    if (given !== undefined) return given;
    const held = find(this.#fetched, kty, kid);
    if (held === undefined) await this.#refresh(now);
    else if (now - this.#fetchedAt >= FRESH_MS) void this.#refresh(now);
    return held ?? find(this.#fetched, kty, kid);
  }

  /** Fetches the set unless that was done just now; who comes while it is fetched waits for the same answer. */
  #refresh(now: number): Promise<void> {
    if (this.#load === undefined) return this.#fetching;
    if (now - this.#askedAt >= COOLDOWN_MS) {
      this.#askedAt = now;
      this.#fetching = this.#load().then(
        (keys) => {
          this.#fetched = keys;
          this.#fetchedAt = now;
        },
        () => {},
      );
    }
    return atMost(PATIENCE_MS, this.#fetching);
  }
}

function find(keys: readonly Jwk[], kty: Jwk["kty"], kid: string): Jwk | undefined {
  return keys.find((key) => key.kty === kty && key.kid === kid);
}

/** Waits for a promise, but not forever: on the platform, one that another request has begun may die with that request. */
function atMost(ms: number, promise: Promise<void>): Promise<void> {
  const { promise: result, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  void promise.then(resolve);
  return result.finally(() => clearTimeout(timer));
}
