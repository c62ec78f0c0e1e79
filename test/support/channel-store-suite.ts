// What every store of a channel promises: run on the one in memory and on the one in an object's SQLite.
import { expect } from "vitest";
import type { ChannelStore, MemberRow } from "../../src/channel/ports.ts";

const member: MemberRow = {
  ref: "r1",
  key: "k",
  user: null,
  session: "s",
  gateway: "g",
  meta: '{"a":"é\\u0000"}',
  seenAt: 1_700_000_000_000,
};

/** The promises, by the sentence that names them; each gets a store that nothing was written to. */
export const channelStoreSuite: Record<string, (store: ChannelStore) => void> = {
  "a store that was never written to is empty, and clearing it does nothing": (store) => {
    store.clear();
    expect([store.get("epoch"), store.ringBody(0)]).toEqual([undefined, undefined]);
    expect([...store.ringIndex(), ...store.members(), ...store.sights()]).toEqual([]);
  },
  "a named value is the last one that was set, and outlives a clearing": (store) => {
    store.set("epoch", "a");
    store.set("epoch", "b");
    store.clear();
    expect(store.get("epoch")).toBe("b");
  },
  "a ring slot is written over, and the index is in the order of the numbers": (store) => {
    store.putRing({ slot: 0, first: 1, last: 2, at: 10, body: "old" });
    store.putRing({ slot: 1, first: 3, last: 3, at: 20, body: "x".repeat(200_000) });
    store.putRing({ slot: 0, first: 4, last: 9, at: 30, body: "new" });
    expect(store.ringIndex().map(({ slot, first, last, at }) => [slot, first, last, at])).toEqual([
      [1, 3, 3, 20],
      [0, 4, 9, 30],
    ]);
    expect([store.ringBody(0), store.ringBody(1)?.length]).toEqual(["new", 200_000]);
  },
  "a ring body larger than a row comes back whole, and leaves nothing behind when it is written over": (store) => {
    const body = `x${"😀".repeat(900_000)}é`;
    store.putRing({ slot: 0, first: 1, last: 1, at: 10, body });
    expect(store.ringBody(0) === body).toBe(true);
    store.putRing({ slot: 0, first: 2, last: 2, at: 20, body: "small" });
    expect(store.ringBody(0)).toBe("small");
    store.putRing({ slot: 0, first: 3, last: 3, at: 30, body });
    store.putRing({ slot: 1, first: 4, last: 4, at: 40, body });
    store.deleteRing(1);
    expect([store.ringIndex().length, store.ringBody(1)]).toEqual([1, undefined]);
    store.putRing({ slot: 1, first: 5, last: 5, at: 50, body: "small" });
    expect(store.ringBody(1)).toBe("small");
    store.clear();
    expect(store.ringBody(0)).toBeUndefined();
  },
  "the backlog is had in its order, however large its bodies, and is forgotten from its beginning": (store) => {
    const body = `x${"😀".repeat(900_000)}é`;
    expect([store.backlogAfter(0), store.backlogLength()]).toEqual([undefined, 0]);
    store.putBacklog(9, "b");
    store.putBacklog(30, "c");
    store.putBacklog(5, body);
    store.clear();
    expect(store.backlogLength()).toBe(body.length + 2);
    expect([store.backlogAfter(0)?.last, store.backlogAfter(4)?.body === body]).toEqual([5, true]);
    expect([store.backlogAfter(5), store.backlogAfter(30)]).toEqual([{ last: 9, body: "b" }, undefined]);
    store.dropBacklog(9);
    expect([store.backlogAfter(0), store.backlogLength()]).toEqual([{ last: 30, body: "c" }, 1]);
    store.dropBacklog(Number.POSITIVE_INFINITY);
    expect([store.backlogAfter(0), store.backlogLength()]).toEqual([undefined, 0]);
  },
  "members come back as they were put, and go one by one": (store) => {
    store.putMember(member);
    store.putMember({ ...member, ref: "r2", user: "u" });
    expect(store.members()).toEqual(expect.arrayContaining([member, { ...member, ref: "r2", user: "u" }]));
    store.deleteMember("r1");
    expect(store.members().map(({ ref }) => ref)).toEqual(["r2"]);
  },
  "the newest sight of a user is kept, and found by the user": (store) => {
    store.putSight({ user: "u", metadata: "{}", seenAt: 1 });
    store.putSight({ user: "u", metadata: '{"a":1}', seenAt: 2 });
    expect(store.sights()).toEqual([{ user: "u", metadata: '{"a":1}', seenAt: 2 }]);
    expect([store.sight("u")?.seenAt, store.sight("v"), store.hasSights()]).toEqual([2, undefined, true]);
  },
  "old sights are forgotten, and it is known when the next one is due": (store) => {
    expect(store.forgetSights(100)).toBeUndefined();
    for (const seenAt of [1, 2, 3]) store.putSight({ user: `u${seenAt}`, metadata: "{}", seenAt });
    expect([store.forgetSights(1), store.sights().length]).toEqual([1, 3]);
    expect([store.forgetSights(3), store.sights().length]).toEqual([3, 1]);
    store.putSight({ user: "u3", metadata: "{}", seenAt: 5 });
    store.putSight({ user: "u4", metadata: "{}", seenAt: 4 });
    expect([store.forgetSights(4), store.sights().length]).toEqual([4, 2]);
    expect([store.forgetSights(9), store.hasSights()]).toEqual([undefined, false]);
    store.putSight({ user: "u5", metadata: "{}", seenAt: 10 });
    store.clear();
    expect(store.forgetSights(0)).toBeUndefined();
  },
};
