// Blocks: whom they keep out, and which of two lists counts.
import { expect, test } from "vitest";
import { type Block, Blocks } from "../../src/protocol/blocks.ts";

const banned: Block = { kind: "user", id: "ann", until: null, reason: null };
const ann = { role: "authenticated", user: "ann", all: {} };

test("a list that was overtaken by a newer one is ignored", () => {
  const blocks = new Blocks();
  blocks.set({ revision: 2, blocks: [banned] });
  blocks.set({ revision: 1, blocks: [] });
  expect(blocks.of(ann, 0)).toEqual(banned);
  blocks.set({ revision: 3, blocks: [] });
  expect(blocks.of(ann, 0)).toBeUndefined();
});
