// Tokens and keys: what opens the door, and what does not.
import { exportJWK, exportSPKI, generateKeyPair, type JWK, SignJWT } from "jose";
import { describe, expect, test } from "vitest";
import { COOLDOWN_MS, type Jwk, KeySet, parseKeySet } from "../../src/auth/key-set.ts";
import { type Keys, verifyToken } from "../../src/auth/tokens.ts";

const secret = "a secret of at least 32 characters";
const keys: Keys = {
  secret,
  keySet: new KeySet(),
  anonKey: "opaque-anon",
  serviceKey: "opaque-service",
  requiredClaims: {},
};
const NOW = 1_800_000_000_000;
const EXP = NOW / 1000 + 60;

function sign(claims: Record<string, unknown>, header: object = {}, key = secret): Promise<string> {
  const protectedHeader = { alg: "HS256", ...header };
  return new SignJWT(claims).setProtectedHeader(protectedHeader).sign(new TextEncoder().encode(key));
}

/** A key pair, its public half as a set holds it, and a signer of tokens for the role of its kid. */
async function pair(alg: string, kid: string, extra: JWK = {}) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk: JWK = { ...(await exportJWK(publicKey)), kid, ...extra };
  const token = (header: object = {}) =>
    new SignJWT({ role: kid, exp: EXP }).setProtectedHeader({ alg, kid, ...header }).sign(privateKey);
  return { jwk, token, publicKey, privateKey };
}

function withKeys(...jwks: JWK[]): Keys {
  return { ...keys, keySet: new KeySet(parseKeySet({ keys: jwks })) };
}

const unknownKid = (kid: string) => ({
  code: "JwtSignerError",
  message: `Failed to generate JWT signer for key ID (kid) "${kid}", check your JWT secret or JWKS configuration`,
});
const noSigner = {
  code: "JwtSignerError",
  message: "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
};

describe("keys", () => {
  test("an opaque key stands for its role, whatever blanks surround it", async () => {
    expect(await verifyToken("opaque-anon", keys, NOW)).toMatchObject({ role: "anon", user: null, exp: null });
    expect(await verifyToken("%20opaque-service ", keys, NOW)).toMatchObject({ role: "service_role" });
  });

  test.each(["opaque-servic", "opaque-service2", "opaque-servicf", "x"])("%s is no key", async (token) => {
    await expect(verifyToken(token, keys, NOW)).rejects.toMatchObject({ code: "MalformedJWT" });
  });

  test.each(["", "%20", " ", "%09"])("the empty token %j opens nothing, even where a key is empty", async (token) => {
    const empty = { ...keys, anonKey: "", serviceKey: "" };
    await expect(verifyToken(token, empty, NOW)).rejects.toMatchObject({ code: "MalformedJWT" });
    await expect(verifyToken(token, { ...empty, serviceKey: undefined }, NOW)).rejects.toMatchObject({
      code: "MalformedJWT",
    });
  });
});

describe("claims", () => {
  test("role and user are those of the claims, or of Hasura's", async () => {
    const plain = await sign({ role: "authenticated", sub: "u1", exp: EXP });
    expect(await verifyToken(plain, keys, NOW)).toMatchObject({ role: "authenticated", user: "u1", exp: EXP });
    const hasura = await sign({
      exp: EXP,
      "https://hasura.io/jwt/claims": { "x-hasura-default-role": "user", "x-hasura-user-id": "u2" },
    });
    expect(await verifyToken(hasura, keys, NOW)).toMatchObject({ role: "user", user: "u2" });
  });

  test("one that expires now has expired", async () => {
    const token = await sign({ role: "anon", exp: NOW / 1000 });
    await expect(verifyToken(token, keys, NOW)).rejects.toMatchObject({ code: "InvalidJWTToken" });
    await expect(verifyToken(token, keys, NOW - 1)).resolves.toMatchObject({ role: "anon" });
  });

  test("times are rounded to whole seconds, and the claims that are handed on have them so", async () => {
    const token = await sign({ role: "anon", exp: NOW / 1000 + 0.4, iat: NOW / 1000 - 60.5 });
    const { exp, all } = await verifyToken(token, keys, NOW - 1);
    expect([exp, all]).toEqual([NOW / 1000, { role: "anon", exp: NOW / 1000, iat: NOW / 1000 - 60 }]);
    await expect(verifyToken(token, keys, NOW)).rejects.toMatchObject({ message: "Token has expired 0 seconds ago" });
  });

  test.each([
    [{ role: "anon" }, "Fields `role` and `exp` are required in JWT"],
    [{ exp: EXP }, "Fields `role` and `exp` are required in JWT"],
    [{ role: 7, exp: EXP }, "Fields `role` and `exp` are required in JWT"],
    [{ role: "anon", exp: "tomorrow" }, "Token expiration time is invalid"],
    [{ role: "anon", exp: null }, "Token expiration time is invalid"],
    [{ role: "anon", exp: EXP, iat: "today" }, "Token issue time is invalid"],
    [{ exp: NOW / 1000 - 7 }, "Token has expired 7 seconds ago"],
  ])("%o is refused", async (claims, message) => {
    const token = await sign(claims);
    await expect(verifyToken(token, keys, NOW)).rejects.toMatchObject({ code: "InvalidJWTToken", message });
  });

  test("an expiry beyond all numbers is no expiry", async () => {
    const part = (text: string): string => Buffer.from(text).toString("base64url");
    const text = `${part('{"alg":"HS256"}')}.${part('{"role":"anon","exp":1e999}')}`;
    const key = await crypto.subtle.importKey("raw", Buffer.from(secret), { name: "HMAC", hash: "SHA-256" }, false, [
      "sign",
    ]);
    const signature = Buffer.from(await crypto.subtle.sign("HMAC", key, Buffer.from(text))).toString("base64url");
    await expect(verifyToken(`${text}.${signature}`, keys, NOW)).rejects.toMatchObject({
      message: "Token expiration time is invalid",
    });
  });

  test("claims that are asked for must be there, and just so", async () => {
    const strict = { ...keys, requiredClaims: { iss: "https://x", tier: 1 } };
    const good = { role: "anon", exp: EXP, iss: "https://x", tier: 1 };
    await expect(verifyToken(await sign(good), strict, NOW)).resolves.toMatchObject({ role: "anon" });
    for (const wrong of [{ iss: "https://y" }, { iss: ["https://x"] }, { iss: undefined }, { tier: "1" }]) {
      const token = await sign({ ...good, ...wrong });
      await expect(verifyToken(token, strict, NOW)).rejects.toMatchObject({ code: "InvalidJWTToken" });
    }
  });
});

describe("signatures", () => {
  test("one of another secret is refused", async () => {
    const token = await sign({ role: "service_role", exp: EXP });
    const other = { ...keys, secret: "quite another secret, also 32 characters" };
    await expect(verifyToken(token, other, NOW)).rejects.toMatchObject({ code: "JwtSignatureError" });
  });

  test.each(["HS256", "HS384", "HS512"])("%s: the secret of the kid counts, else the shared one", async (alg) => {
    const own = "the secret of one kid, of 64 characters so that it does for all.";
    const known = withKeys({ kty: "oct", kid: "k", k: Buffer.from(own).toString("base64url") });
    const claims = { role: "anon", exp: EXP };
    await expect(verifyToken(await sign(claims, { alg, kid: "k" }, own), known, NOW)).resolves.toBeDefined();
    await expect(verifyToken(await sign(claims, { alg, kid: "k" }), known, NOW)).rejects.toMatchObject({
      code: "JwtSignatureError",
    });
    for (const header of [{ alg }, { alg, kid: "other" }]) {
      await expect(verifyToken(await sign(claims, header), known, NOW)).resolves.toBeDefined();
    }
  });

  test.each(["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"])(
    "%s: the public key of the kid counts, and no other",
    async (alg) => {
      const [mine, other] = await Promise.all([pair(alg, "mine"), pair(alg, "other")]);
      const known = withKeys(other.jwk, mine.jwk);
      await expect(verifyToken(await mine.token(), known, NOW)).resolves.toMatchObject({ role: "mine" });
      const wrong = verifyToken(await mine.token({ kid: "other" }), known, NOW);
      await expect(wrong).rejects.toMatchObject({ code: "JwtSignatureError" });
      const absent = verifyToken(await mine.token({ kid: "abc" }), known, NOW);
      await expect(absent).rejects.toMatchObject(unknownKid("abc"));
      const unnamed = verifyToken(await mine.token({ kid: undefined }), known, NOW);
      await expect(unnamed).rejects.toMatchObject(noSigner);
    },
  );

  test("a public key is no secret: what is signed with its text, in any form, is refused", async () => {
    const { jwk, publicKey } = await pair("RS256", "k");
    const known = withKeys(jwk);
    const forms = [await exportSPKI(publicKey), JSON.stringify(jwk), jwk.n ?? ""];
    for (const form of forms.flatMap((text) => [text, text.trim()])) {
      const token = await sign({ role: "service_role", exp: EXP }, { kid: "k" }, form);
      await expect(verifyToken(token, known, NOW)).rejects.toMatchObject({ code: "JwtSignatureError" });
    }
  });

  test("keys brought along by a token itself count for nothing", async () => {
    const { jwk, privateKey } = await pair("ES256", "k");
    for (const header of [{ jwk }, { jwk, kid: "k" }, { jku: "https://evil.example/jwks", kid: "k" }]) {
      const token = await new SignJWT({ role: "service_role", exp: EXP })
        .setProtectedHeader({ alg: "ES256", ...header })
        .sign(privateKey);
      await expect(verifyToken(token, keys, NOW)).rejects.toMatchObject({ code: "JwtSignerError" });
    }
  });

  test.each(["none", "None", "PS256", "Ed448", "constructor", "", undefined])("alg %s is refused", async (alg) => {
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const { jwk } = await pair("RS256", "k");
    for (const signature of ["", "AAAA"]) {
      const token = `${part({ alg })}.${part({ role: "service_role", exp: EXP })}.${signature}`;
      await expect(verifyToken(token, withKeys(jwk), NOW)).rejects.toMatchObject(noSigner);
    }
  });

  test("a key that does not do for the algorithm is a signer error", async () => {
    const p256 = await pair("ES256", "k");
    const p384 = await pair("ES384", "k");
    const forOther = await pair("RS256", "k", { alg: "RS512" });
    const ed448 = { kty: "OKP", crv: "Ed448", kid: "k", x: p256.jwk.x ?? "" };
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const ed448Token = `${part({ alg: "Ed448", kid: "k" })}.${part({ role: "anon", exp: EXP })}.AAAA`;
    for (const [token, jwk] of [
      [await p256.token(), p384.jwk],
      [await forOther.token(), forOther.jwk],
      [ed448Token, ed448],
      [ed448Token.replace(part({ alg: "Ed448", kid: "k" }), part({ alg: "EdDSA", kid: "k" })), ed448],
    ] as const) {
      await expect(verifyToken(token, withKeys(jwk), NOW)).rejects.toMatchObject(unknownKid("k"));
    }
  });

  test("of a private key in the set the public part is used", async () => {
    const { token, privateKey } = await pair("ES256", "k");
    const jwk = { ...(await exportJWK(privateKey)), kid: "k", alg: "ES256", key_ops: ["sign", "verify"] };
    await expect(verifyToken(await token(), withKeys(jwk), NOW)).resolves.toMatchObject({ role: "k" });
  });

  test.each(["a.b.c", "a.b", "....", "e30.e30.e30", `${btoa("[]")}.${btoa("[]")}.x`])(
    "%s is no token",
    async (token) => {
      const refused = expect(verifyToken(token, keys, NOW)).rejects;
      await refused.toMatchObject({ code: token === "e30.e30.e30" ? "JwtSignerError" : "MalformedJWT" });
    },
  );
});

describe("a key set", () => {
  test.each([undefined, null, [], {}, { keys: {} }, { keys: "x".repeat(101).split("") }])("%j is none", (value) => {
    expect(parseKeySet(value)).toBeUndefined();
  });

  test("leaves out what is of no use: keys for other purposes, of other kinds, without a name", () => {
    const rsa = { kty: "RSA", kid: "k", n: "AQAB", e: "AQAB" };
    const useless = [
      { ...rsa, use: "enc" },
      { ...rsa, key_ops: ["encrypt"] },
      { ...rsa, kid: undefined },
      { ...rsa, kty: "AKP" },
      { kty: "oct", kid: "k", k: "" },
      null,
      "key",
    ];
    expect(parseKeySet({ keys: [...useless, rsa] })).toEqual([rsa]);
  });
});

describe("a published key set", () => {
  /** What is published, and how often it was asked for; a test answers or fails each request itself. */
  class Publisher {
    keys: readonly Jwk[] = [];
    asked = 0;
    fails = false;
    readonly set = new KeySet([], async () => {
      this.asked += 1;
      if (this.fails) throw new Error("away");
      return this.keys;
    });

    publish(...jwks: JWK[]): void {
      this.keys = parseKeySet({ keys: jwks }) ?? [];
    }

    verify(token: string, now: number) {
      return verifyToken(token, { ...keys, keySet: this.set }, now);
    }
  }

  const token = (signer: Awaited<ReturnType<typeof pair>>) => signer.token();

  test("is fetched when first needed, and not again while it serves", async () => {
    const publisher = new Publisher();
    const old = await pair("ES256", "old");
    publisher.publish(old.jwk);
    await publisher.verify(await sign({ role: "anon", exp: EXP }, { kid: "no key of its own" }), NOW);
    expect(publisher.asked).toBe(0);
    for (let n = 0; n < 3; n++) await publisher.verify(await token(old), NOW + n);
    expect(publisher.asked).toBe(1);
  });

  test("is fetched once by all who need it at the same time", async () => {
    const publisher = new Publisher();
    const old = await pair("ES256", "old");
    publisher.publish(old.jwk);
    const text = await token(old);
    await Promise.all(Array.from({ length: 20 }, () => publisher.verify(text, NOW)));
    expect(publisher.asked).toBe(1);
  });

  test("is fetched again for a kid that it lacks, and for made-up ones no more often than after the cooldown", async () => {
    const publisher = new Publisher();
    const [old, fresh] = await Promise.all([pair("ES256", "old"), pair("ES256", "fresh")]);
    publisher.publish(old.jwk);
    await publisher.verify(await token(old), NOW);
    publisher.publish(old.jwk, fresh.jwk);
    for (let n = 0; n < 10; n++) {
      await expect(publisher.verify(await token(fresh), NOW + n)).rejects.toMatchObject(unknownKid("fresh"));
    }
    expect(publisher.asked).toBe(1);
    await expect(publisher.verify(await token(fresh), NOW + COOLDOWN_MS)).resolves.toMatchObject({ role: "fresh" });
    expect(publisher.asked).toBe(2);
  });

  test("keeps its keys while it cannot be fetched", async () => {
    const publisher = new Publisher();
    const [old, fresh] = await Promise.all([pair("ES256", "old"), pair("ES256", "fresh")]);
    publisher.publish(old.jwk);
    await publisher.verify(await token(old), NOW);
    publisher.fails = true;
    await expect(publisher.verify(await token(fresh), NOW + COOLDOWN_MS)).rejects.toMatchObject(unknownKid("fresh"));
    await expect(publisher.verify(await token(old), NOW + 2 * COOLDOWN_MS)).resolves.toMatchObject({ role: "old" });
    expect(publisher.asked).toBe(2);
  });

  test("gives up a key that was withdrawn, without keeping anybody waiting", async () => {
    const publisher = new Publisher();
    const old = await pair("ES256", "old");
    const HOUR_MS = 3_600_000;
    const later = await new SignJWT({ role: "old", exp: EXP + 7_200 })
      .setProtectedHeader({ alg: "ES256", kid: "old" })
      .sign(old.privateKey);
    publisher.publish(old.jwk);
    await publisher.verify(later, NOW);
    publisher.publish();
    await expect(publisher.verify(later, NOW + HOUR_MS)).resolves.toMatchObject({ role: "old" });
    await expect(publisher.verify(later, NOW + HOUR_MS)).rejects.toMatchObject(unknownKid("old"));
  });

  test("brings no secrets: one that can be fetched is none", async () => {
    const publisher = new Publisher();
    publisher.publish({ kty: "oct", kid: "k", k: Buffer.from("published to everybody").toString("base64url") });
    await publisher.set.publicKey("RSA", "any", NOW);
    const forged = await sign({ role: "service_role", exp: EXP }, { kid: "k" }, "published to everybody");
    await expect(publisher.verify(forged, NOW)).rejects.toMatchObject({ code: "JwtSignatureError" });
  });
});
