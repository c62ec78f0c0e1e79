// The option `persist` of a broadcast: what it means, and what is refused.
import { expect, test } from "vitest";
import { parsePersist } from "../../src/protocol/persist.ts";

test.each([
  [true, 259_200],
  [{}, 259_200],
  [{ ttl: null }, 259_200],
  [{ ttl: 1 }, 1],
  [{ ttl: "60" }, 60],
  [{ ttl: 259_200 }, 259_200],
])("%j keeps the message for %i seconds", (option, ttl) => {
  expect(parsePersist(option)).toEqual({ ttl });
});

test.each([undefined, null, false])("%j does not keep it", (option) => {
  expect(parsePersist(option)).toBeUndefined();
});

test.each([
  ...[{ ttl: 0 }, { ttl: -1 }, { ttl: 1.5 }, { ttl: 259_201 }, { ttl: "259201" }, { ttl: "1.5" }, { ttl: "" }],
  ...[{ ttl: " 1" }, { ttl: "0x10" }, { ttl: true }, { ttl: {} }, [], "true", 60, ""],
])("%j is refused", (option) => {
  expect(parsePersist(option)).toBe("invalid");
});
