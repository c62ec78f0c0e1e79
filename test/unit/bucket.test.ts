// Token buckets: what they let through, and what a flood of keys does to them.
import { describe, expect, test } from "vitest";
import { Bucket, Buckets } from "../../src/protocol/bucket.ts";

const NOW = 1_800_000_000_000;

describe("a bucket", () => {
  test("gives a minute's allowance at once, then one after each share of the minute", () => {
    const bucket = new Bucket(60, NOW);
    for (let taken = 0; taken < 60; taken++) expect(bucket.take(NOW)).toBe(true);
    expect(bucket.take(NOW)).toBe(false);
    expect(bucket.waitMs(NOW)).toBe(1_000);
    expect(bucket.take(NOW + 999)).toBe(false);
    expect(bucket.take(NOW + 1_000)).toBe(true);
    expect(bucket.take(NOW + 1_000)).toBe(false);
  });

  test("holds no more than that, however long it rests", () => {
    const bucket = new Bucket(3, NOW);
    expect(bucket.left(NOW + 3_600_000)).toBe(3);
    expect(bucket.take(NOW + 3_600_000, 3)).toBe(true);
    expect(bucket.left(NOW + 3_600_000)).toBe(0);
  });

  test("gives several together or none of them", () => {
    const bucket = new Bucket(10, NOW);
    expect(bucket.take(NOW, 8)).toBe(true);
    expect(bucket.take(NOW, 3)).toBe(false);
    expect(bucket.left(NOW)).toBe(2);
    expect(bucket.waitMs(NOW, 3)).toBe(6_000);
    expect(bucket.waitMs(NOW, 2)).toBe(0);
    expect(bucket.waitMs(NOW, 11)).toBe(Number.POSITIVE_INFINITY);
  });

  test("a clock that steps back neither refills nor empties it, and the time since then counts", () => {
    const bucket = new Bucket(60, NOW);
    expect(bucket.take(NOW, 60)).toBe(true);
    expect(bucket.take(NOW - 60_000)).toBe(false);
    expect(bucket.take(NOW - 59_000)).toBe(true);
  });
});

describe("buckets", () => {
  test("are one a key", () => {
    const buckets = new Buckets(10);
    expect(buckets.of("a", 1, NOW).take(NOW)).toBe(true);
    expect(buckets.of("a", 1, NOW).take(NOW)).toBe(false);
    expect(buckets.of("b", 1, NOW).take(NOW)).toBe(true);
  });

  test("forget the key used longest ago, never one that keeps asking", () => {
    const buckets = new Buckets(2);
    buckets.of("busy", 1, NOW).take(NOW);
    for (let n = 0; n < 100; n++) {
      buckets.of(`other ${n}`, 1, NOW).take(NOW);
      expect(buckets.of("busy", 1, NOW).take(NOW)).toBe(false);
    }
    expect(buckets.of("other 0", 1, NOW).take(NOW)).toBe(true);
  });
});
