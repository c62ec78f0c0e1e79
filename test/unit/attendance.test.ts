// Attendance over the death of a gateway: who comes back was never gone, who does not is gone when the grace is over.
import { beforeEach, expect, test } from "vitest";
import { Attendance } from "../../src/channel/attendance.ts";
import type { Link } from "../../src/channel/ports.ts";
import { Presence } from "../../src/channel/presence.ts";
import type { Down } from "../../src/protocol/link.ts";
import { Clock, MemoryChannelStore, World } from "../support/world.ts";

let clock: Clock;
let store: MemoryChannelStore;
let told: string[];
let presence: Presence;
let attendance: Attendance;
let links: Map<string, Link>;
let refs = 0;

const observer: Link = {
  gateway: "observer",
  send(message: Down) {
    if (message.t !== "diff") return;
    for (const key of Object.keys(message.leaves)) told.push(`-${key}`);
    for (const key of Object.keys(message.joins)) told.push(`+${key}`);
  },
  deliver() {},
  close() {},
};

/** The channel's object wakes. */
function wake(): void {
  const ports = new World().channelPorts(store);
  presence = new Presence(store, () => `ref-${++refs}`);
  const timers = clock.timers({ alive: true, alarms: [] });
  attendance = new Attendance(presence, { ...ports, store, timers }, links);
}

function track(session: string, key: string, meta = {}, gateway = "g"): void {
  attendance.track({ key, user: key, session, gateway, meta });
}

const there = () => presence.list().map(({ key, session }) => `${key}/${session}`);

beforeEach(() => {
  clock = new Clock();
  store = new MemoryChannelStore();
  told = [];
  links = new Map([["observer", observer]]);
  wake();
  for (const key of ["ann", "bob"]) track(`${key}-1`, key);
  attendance.unlinked("g");
  told.length = 0;
});

test("a gateway that was here before has lost those that it does not name", () => {
  attendance.linked("g", ["ann-1"], true);
  expect([there(), told]).toEqual([["ann/ann-1"], ["-bob"]]);
});

test("of one that begins anew all may come back, and are told of when they have not within the grace", async () => {
  attendance.linked("g", [], false);
  track("ann-2", "ann");
  expect([there().sort(), told]).toEqual([["ann/ann-2", "bob/bob-1"], []]);
  await clock.pass(10_000);
  attendance.alarm();
  expect([there(), told]).toEqual([["ann/ann-2"], ["-bob"]]);
});

test("who comes back as somebody else, or with something else to say, is told of", () => {
  attendance.linked("g", [], false);
  attendance.track({ key: "ann", user: "mallory", session: "m", gateway: "g", meta: {} });
  track("bob-2", "bob", { mood: "new" });
  expect([there().sort(), told]).toEqual([
    ["ann/ann-1", "ann/m", "bob/bob-2"],
    ["+ann", "-bob", "+bob"],
  ]);
});

test("of two devices of one user each takes the place of the one that said the same", () => {
  attendance.linked("g", ["ann-1", "bob-1"], true);
  track("ann-phone", "ann", { on: "phone" });
  told.length = 0;
  attendance.unlinked("g");
  attendance.linked("g", [], false);
  track("ann-phone-2", "ann", { on: "phone" });
  track("ann-2", "ann");
  expect([there().sort(), told]).toEqual([["ann/ann-2", "ann/ann-phone-2", "bob/bob-1"], []]);
});

test("the grace holds over a sleep of the channel, and through another gateway", async () => {
  attendance.linked("g", [], false);
  wake();
  track("ann-2", "ann", {}, "h");
  expect([there().sort(), told]).toEqual([["ann/ann-2", "bob/bob-1"], []]);
  await clock.pass(10_000);
  attendance.alarm();
  expect([there(), told]).toEqual([["ann/ann-2"], ["-bob"]]);
});
