// The ring: what is deleted of it is gone wherever it is read, and still known by its id.
import { expect, test } from "vitest";
import { Ring } from "../../src/channel/ring.ts";
import type { Message } from "../../src/protocol/link.ts";
import { MemoryChannelStore } from "../support/world.ts";

const message = (seq: number, sender: string | null = "ann", body: Message["body"] = `{"n":${seq}}`): Message => ({
  ...{ seq, id: `id-${seq}`, at: 1_000 + seq, from: null, sender, event: "broadcast", name: "e", body },
});

const read = (ring: Ring) => [
  [...ring.after(0)].map(({ seq }) => seq),
  [...ring.since(0)].map(({ seq }) => seq),
  ring.newest(10, 0).map(({ seq }) => seq),
];

test.each([
  ["written", true],
  ["not written yet", false],
])("a message that is %s is forgotten, in this life and the next", (_when, written) => {
  const store = new MemoryChannelStore();
  const ring = new Ring(store);
  const bytes = new Uint8Array([1, 2, 3]);
  for (const one of [message(1), message(2, "bob", bytes), message(3), message(4, null)]) ring.add(one);
  if (written) ring.write();
  expect(ring.erase("id-3")).toBe(true);
  expect(ring.erase("id-3")).toBe(false);
  for (const seqs of read(ring)) expect(seqs).toEqual([1, 2, 4]);
  ring.write();
  const next = new Ring(store);
  for (const seqs of read(next)) expect(seqs).toEqual([1, 2, 4]);
  expect([...next.after(1)].map(({ body }) => body)).toEqual([bytes, '{"n":4}']);
  // A batch that is delivered again brings back nothing.
  expect([...next.ids()]).toEqual(["id-1", "id-2", "id-3", "id-4"]);
  expect([next.first, next.last]).toEqual([1, 4]);
  for (const { body } of store.ringIndex().map(({ slot }) => ({ body: store.ringBody(slot) }))) {
    expect(body).not.toContain('{"n":3}');
  }
});

test("of a user's own, nobody else's is forgotten", () => {
  const ring = new Ring(new MemoryChannelStore());
  ring.add(message(1));
  ring.add(message(2, null));
  ring.write();
  expect([ring.erase("id-1", "bob"), ring.erase("id-2", "bob"), ring.erase("id-1", "ann")]).toEqual([
    false,
    false,
    true,
  ]);
  for (const seqs of read(ring)) expect(seqs).toEqual([2]);
});

test("a row of which all is forgotten does not end what is read, nor move where the ring begins", () => {
  const ring = new Ring(new MemoryChannelStore());
  for (const seq of [1, 2, 3]) {
    ring.add(message(seq));
    ring.write();
  }
  ring.erase("id-2");
  for (const seqs of read(ring)) expect(seqs).toEqual([1, 3]);
  ring.erase("id-3");
  for (const seqs of read(ring)) expect(seqs).toEqual([1]);
  expect([ring.first, ring.last]).toEqual([1, 3]);
});
