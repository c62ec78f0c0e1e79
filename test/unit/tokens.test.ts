// Tokens and keys: what opens the door, and what does not.
import { SignJWT } from "jose";
import { describe, expect, test } from "vitest";
import { type Keys, verifyToken } from "../../src/auth/tokens.ts";

const secret = "a secret of at least 32 characters";
const keys: Keys = { secret, anonKey: "opaque-anon", serviceKey: "opaque-service" };
const NOW = 1_800_000_000_000;

function sign(claims: Record<string, unknown>): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(new TextEncoder().encode(secret));
}

describe("keys", () => {
  test("an opaque key stands for its role, whatever blanks surround it", async () => {
    expect(await verifyToken("opaque-anon", keys, NOW)).toMatchObject({ role: "anon", user: null, exp: null });
    expect(await verifyToken("%20opaque-service ", keys, NOW)).toMatchObject({ role: "service_role" });
  });

  test.each(["opaque-servic", "opaque-service2", "opaque-servicf", "x"])("%s is no key", async (token) => {
    await expect(verifyToken(token, keys, NOW)).rejects.toMatchObject({ code: "MalformedJWT" });
  });

  test.each(["", "%20", " ", "%09"])("the empty token %j opens nothing, even where a key is empty", async (token) => {
    const empty = { secret, anonKey: "", serviceKey: "" };
    await expect(verifyToken(token, empty, NOW)).rejects.toMatchObject({ code: "MalformedJWT" });
    await expect(verifyToken(token, { ...empty, serviceKey: undefined }, NOW)).rejects.toMatchObject({
      code: "MalformedJWT",
    });
  });
});

describe("tokens", () => {
  test("role and user are those of the claims, or of Hasura's", async () => {
    const exp = NOW / 1000 + 60;
    const plain = await sign({ role: "authenticated", sub: "u1", exp });
    expect(await verifyToken(plain, keys, NOW)).toMatchObject({ role: "authenticated", user: "u1", exp });
    const hasura = await sign({
      exp,
      "https://hasura.io/jwt/claims": { "x-hasura-default-role": "user", "x-hasura-user-id": "u2" },
    });
    expect(await verifyToken(hasura, keys, NOW)).toMatchObject({ role: "user", user: "u2" });
  });

  test("one that expires now has expired", async () => {
    const token = await sign({ role: "anon", exp: NOW / 1000 });
    await expect(verifyToken(token, keys, NOW)).rejects.toMatchObject({ code: "InvalidJWTToken" });
    await expect(verifyToken(token, keys, NOW - 1)).resolves.toMatchObject({ role: "anon" });
  });

  test("one of another secret is refused", async () => {
    const token = await sign({ role: "service_role", exp: NOW / 1000 + 60 });
    const other = { ...keys, secret: "quite another secret, also 32 characters" };
    await expect(verifyToken(token, other, NOW)).rejects.toMatchObject({ code: "JwtSignatureError" });
  });
});
