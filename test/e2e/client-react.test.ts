// @nself/react in a document: hooks of real components against the real server.
import { Window } from "happy-dom";
import { createElement, type ReactNode, StrictMode, useEffect } from "react";
import { flushSync } from "react-dom";
import { createRoot, type Root, type RootOptions } from "react-dom/client";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { RealtimeClient } from "../../src/client/index.ts";
import { RealtimeProvider, type UseChannel, type UseChannelOptions, useChannel } from "../../src/react/index.ts";
import { realtime } from "../cli/nself.ts";
import { eventually, uniqueName } from "../support/clients.ts";
import { Relay } from "../support/relay.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { OwnClients } from "./client-helpers.ts";

let stack: TestStack;
let clients: OwnClients;
let roots: Root[] = [];
const page = new Window();

beforeAll(async () => {
  stack = await startStack();
  clients = new OwnClients(stack);
  // The page alone: the WebSocket stays Node's.
  vi.stubGlobal("window", page);
  vi.stubGlobal("document", page.document);
});

afterEach(() => {
  for (const root of roots) root.unmount();
  roots = [];
  clients.close();
});

afterAll(() => stack?.stop());

function newRoot(options?: RootOptions) {
  const element = page.document.createElement("main");
  return [element, createRoot(element, options)] as const;
}

/** A mounted component with the hook: what the hook returned last, and the text that is shown. */
interface Mounted {
  readonly now: UseChannel;
  readonly text: string;
  rerender(room: string, options?: UseChannelOptions): void;
  unmount(): void;
}

const chat = { events: ["message.sent", "user.joined", "user.left"], presence: true };

function mount(
  client: RealtimeClient,
  room: string,
  options: UseChannelOptions = chat,
  wrap: (children: ReactNode) => ReactNode = (children) => children,
): Mounted {
  let now: UseChannel | undefined;
  function ChatRoom(props: { readonly room: string; readonly options: UseChannelOptions }): ReactNode {
    now = useChannel(props.room, props.options);
    const { messages, online } = now;
    return [
      createElement("div", { key: "online" }, "Online: ", online.length),
      ...messages.map((message) => createElement("p", { key: message.id }, message.payload.text)),
    ];
  }
  const [element, root] = newRoot();
  roots.push(root);
  const render = (name: string, wanted = options): void => {
    const chatRoom = createElement(ChatRoom, { room: name, options: wanted });
    flushSync(() => root.render(createElement(RealtimeProvider, { client }, wrap(chatRoom))));
  };
  render(room);
  return {
    get now() {
      if (now === undefined) throw new Error("not rendered");
      return now;
    },
    get text() {
      return element.textContent ?? "";
    },
    rerender: render,
    unmount: () => flushSync(() => root.unmount()),
  };
}

async function joined(...mounted: Mounted[]): Promise<void> {
  await eventually(() => expect(mounted.map(({ now }) => now.isJoined)).toEqual(mounted.map(() => true)));
}

async function channelsOf(room: string): Promise<number> {
  const { stdout } = await realtime(stack, ["connections", "--json"]);
  const connections: { channels: string[] }[] = JSON.parse(stdout);
  return connections.filter(({ channels }) => channels.some((channel) => channel.endsWith(room))).length;
}

describe("useChannel", () => {
  test("AC-200: returns messages, send and online", async () => {
    const hook = mount(clients.open(), uniqueName("room"));
    expect(hook.now).toMatchObject({ messages: [], send: expect.any(Function), online: [] });
    expect(hook.text).toBe("Online: 0");
    await eventually(() => expect(hook.text).toBe("Online: 1"));
  });

  test("AC-201: send shows in messages of every mounted hook of the room, with id and payload.text", async () => {
    const room = uniqueName("room");
    const [one, other] = [clients.open(), clients.open()];
    const hooks = [mount(one, room), mount(one, room), mount(other, room)];
    const elsewhere = mount(other, uniqueName("elsewhere"));
    await joined(...hooks, elsewhere);
    await hooks[0]?.now.send("message.sent", { text: "Hello", user_id: "ann" });
    await hooks[2]?.now.send("message.sent", { text: "Hi", user_id: "bob" });
    await eventually(() => expect(hooks.map(({ now }) => now.messages.length)).toEqual([2, 2, 2]));
    for (const { now, text } of hooks) {
      expect(now.messages.map(({ payload }) => payload.text)).toEqual(["Hello", "Hi"]);
      expect(now.messages.map(({ id }) => id)).toEqual(hooks[0]?.now.messages.map(({ id }) => id));
      expect(new Set(now.messages.map(({ id }) => id)).size).toBe(2);
      expect(text).toContain("HelloHi");
    }
    expect(elsewhere.now.messages).toEqual([]);
  });

  test("AC-202: only the listed events appear in messages; without a list all do", async () => {
    const room = uniqueName("events");
    const client = clients.open();
    const [some, all] = [mount(client, room), mount(client, room, {})];
    await joined(some, all);
    await all.now.send("typing", { text: "…" });
    await all.now.send("user.joined", { text: "ann" });
    await eventually(() => expect(all.now.messages.map(({ event }) => event)).toEqual(["typing", "user.joined"]));
    expect(some.now.messages.map(({ event }) => event)).toEqual(["user.joined"]);
  });

  test("AC-202: online.length follows presence, and unmounting leaves", async () => {
    const room = uniqueName("presence");
    const [ann, bob] = [clients.open(), clients.open()];
    const first = mount(ann, room, { presence: { user_id: "ann", status: "online" } });
    await eventually(() => expect(first.now.online).toEqual([{ key: "ann", user_id: "ann", status: "online" }]));
    const second = mount(bob, room);
    const again = mount(bob, room);
    await eventually(() => expect([first, second, again].map(({ now }) => now.online.length)).toEqual([2, 2, 2]));
    expect(first.text).toContain("Online: 2");
    again.unmount();
    await eventually(async () => expect(await channelsOf(room)).toBe(2));
    expect(first.now.online).toHaveLength(2);
    second.unmount();
    await eventually(() => expect(first.now.online).toHaveLength(1));
    await eventually(async () => expect(await channelsOf(room)).toBe(1));
    await expect(second.now.send("message.sent", { text: "too late" })).rejects.toThrow("not mounted");
  });

  test("another roomId is another room, with nothing of the one before", async () => {
    const [room, next] = [uniqueName("before"), uniqueName("after")];
    const hook = mount(clients.open(), room);
    await joined(hook);
    await hook.now.send("message.sent", { text: "here" });
    await eventually(() => expect(hook.now.messages).toHaveLength(1));
    hook.rerender(next);
    expect(hook.now.messages).toEqual([]);
    await joined(hook);
    await hook.now.send("message.sent", { text: "there" });
    await eventually(() => expect(hook.now.messages.map(({ payload }) => payload.text)).toEqual(["there"]));
    await eventually(async () => expect(await channelsOf(room)).toBe(0));
  });

  test("two hooks that do not agree on `private` are in one room, and both send to it", async () => {
    const room = uniqueName("agreed");
    const client = clients.open();
    const [open, secret] = [mount(client, room), mount(client, room, { ...chat, private: true })];
    await joined(open, secret);
    await secret.now.send("message.sent", { text: "here" });
    await eventually(() => expect(open.now.messages.map(({ payload }) => payload.text)).toEqual(["here"]));
  });

  test("a `send` of a room that was left since throws, and joins nothing", async () => {
    const [room, next] = [uniqueName("before"), uniqueName("after")];
    const client = clients.open();
    const hook = mount(client, room);
    await joined(hook);
    const { send } = hook.now;
    hook.rerender(next);
    await joined(hook);
    await eventually(async () => expect(await channelsOf(room)).toBe(0));
    await expect(send("message.sent", { text: "late" })).rejects.toThrow("not mounted");
    expect(await channelsOf(room)).toBe(0);
    hook.rerender(room);
    await joined(hook);
    await hook.now.send("message.sent", { text: "back" });
    await eventually(() => expect(hook.now.messages.map(({ payload }) => payload.text)).toEqual(["back"]));
  });

  test("what is sent before the room is entered, or just before it is left, arrives", async () => {
    const room = uniqueName("early");
    const client = clients.open();
    const listener = mount(clients.open(), room);
    await joined(listener);
    function Greeter({ send }: Pick<UseChannel, "send">): ReactNode {
      useEffect(() => void send("message.sent", { text: "early" }), [send]);
      return null;
    }
    const [, root] = newRoot();
    function Greeting(): ReactNode {
      return createElement(Greeter, useChannel(room, { ...chat, client }));
    }
    flushSync(() => root.render(createElement(Greeting)));
    await eventually(() => expect(listener.text).toContain("early"));
    const hook = mount(client, room);
    const late = hook.now.send("message.sent", { text: "late" });
    flushSync(() => root.unmount());
    hook.unmount();
    await late;
    await eventually(() => expect(listener.now.messages.map(({ payload }) => payload.text)).toEqual(["early", "late"]));
    await eventually(async () => expect(await channelsOf(room)).toBe(1));
  });

  test("who changes their own presence, or which events they want, keeps the messages that are there", async () => {
    const room = uniqueName("moods");
    await using relay = await Relay.start(stack.url);
    const [client, other] = [clients.open({ url: relay.url }), mount(clients.open(), room)];
    const as = (status: string, events = ["message.sent"]) => ({ events, presence: { user_id: "ann", status } });
    const hook = mount(client, room, as("online"));
    await joined(hook, other);
    const texts = (): unknown[] => hook.now.messages.map(({ payload }) => payload.text);
    await other.now.send("message.sent", { text: "1" });
    await eventually(() => expect(texts()).toEqual(["1"]));
    await eventually(() => expect(hook.now.online).toHaveLength(2));
    hook.rerender(room, as("away"));
    expect(hook.now).toMatchObject({ messages: [{ payload: { text: "1" } }], isJoined: true });
    await eventually(() => expect(other.now.online).toContainEqual({ key: "ann", user_id: "ann", status: "away" }));
    hook.rerender(room, as("away", ["user.joined"]));
    await other.now.send("message.sent", { text: "2" });
    await other.now.send("user.joined", { text: "3" });
    await eventually(() => expect(texts()).toEqual(["1", "3"]));
    // Out of presence altogether, and back.
    hook.rerender(room, { events: ["user.joined"] });
    expect(hook.now.online).toEqual([]);
    await eventually(() => expect(other.now.online).toHaveLength(1));
    hook.rerender(room, as("back"));
    await eventually(() => expect(hook.now.online).toHaveLength(2));
    await eventually(() => expect(other.now.online).toContainEqual({ key: "ann", user_id: "ann", status: "back" }));
    expect(texts()).toEqual(["1", "3"]);
    const told = relay.frames.flatMap(({ from, text }) =>
      from === "client" ? [/"(track|untrack)"/.exec(text)?.[1]] : [],
    );
    expect(told.filter(Boolean)).toEqual(["track", "track", "untrack", "track"]);
    expect(client.errors).toEqual([]);
  });

  test("strict mode joins once, and sends once", async () => {
    const room = uniqueName("strict");
    const client = clients.open();
    const hook = mount(client, room, chat, (children) => createElement(StrictMode, null, children));
    await joined(hook);
    await hook.now.send("message.sent", { text: "once" });
    await eventually(() => expect(hook.now.messages).toHaveLength(1));
    await eventually(() => expect(hook.now.online).toHaveLength(1));
    expect(await channelsOf(room)).toBe(1);
    expect(client.errors).toEqual([]);
  });

  test("AC-193: messages go on without loss when the edge is killed", async () => {
    const room = uniqueName("killed");
    const [hook, sender] = [mount(clients.open(), room), mount(clients.open(), room)];
    await joined(hook, sender);
    await sender.now.send("message.sent", { text: "1" });
    const killed = stack.killEdge();
    for (const text of ["2", "3", "4"]) await sender.now.send("message.sent", { text });
    await killed;
    await eventually(() => expect(hook.now.messages.map(({ payload }) => payload.text)).toEqual(["1", "2", "3", "4"]));
    await eventually(() => expect(hook.now.online).toHaveLength(2));
  });

  test("a limit of 0 keeps no message", async () => {
    const room = uniqueName("none");
    const client = clients.open();
    const [none, one] = [mount(client, room, { limit: 0 }), mount(client, room, { limit: 1 })];
    await joined(none, one);
    await one.now.send("n", { text: "1" });
    await eventually(() => expect(one.now.messages).toHaveLength(1));
    expect(none.now.messages).toEqual([]);
  });

  test("keeps the newest messages up to its limit, and says what is missing without a provider", async () => {
    const hook = mount(clients.open(), uniqueName("limit"), { limit: 2 });
    await joined(hook);
    for (const text of ["1", "2", "3"]) await hook.now.send("n", { text });
    await eventually(() => expect(hook.now.messages.map(({ payload }) => payload.text)).toEqual(["2", "3"]));
    const Bare = (): ReactNode => useChannel("x").online.length;
    const failures: unknown[] = [];
    const [, root] = newRoot({ onUncaughtError: (error) => void failures.push(error) });
    flushSync(() => root.render(createElement(Bare)));
    expect(String(failures[0])).toContain("<RealtimeProvider client={client}>");
  });
});
