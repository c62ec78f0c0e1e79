// Rooms: the channels that hooks have in common, left when the last one of them is unmounted.
import type { Channel, ChannelOptions, Loose, RealtimeClient } from "@nself/client";

/** A channel and how many hold it: hooks, and what they are sending. */
export interface Room {
  readonly channel: Channel;
  holders: number;
  /** Hooks that are present, with what they track: the newest counts. */
  readonly present: Map<symbol, Loose>;
  /** What the server was told of them last. */
  shown: Loose | undefined;
}

const rooms = new WeakMap<RealtimeClient, Map<string, Room>>();

/**
 * Enters a room. Who enters the same room shares its channel, so that `private` is what the first one said. @returns the
 * room, and how it is left
 */
export function enter(client: RealtimeClient, name: string, isPrivate: boolean): [Room, () => void] {
  const own = rooms.get(client) ?? new Map<string, Room>();
  rooms.set(client, own);
  const room = own.get(name) ?? newRoom(client.channel(name, optionsOf(isPrivate)));
  own.set(name, room);
  room.holders++;
  return [
    room,
    () => {
      room.holders--;
      // Not at once: strict mode unmounts and mounts again in one breath, and so does a list that is sorted.
      setTimeout(() => {
        if (room.holders > 0 || own.get(name) !== room) return;
        own.delete(name);
        client.removeChannel(room.channel);
      });
    },
  ];
}

function newRoom(channel: Channel): Room {
  return { channel, holders: 0, present: new Map(), shown: undefined };
}

/** Everybody in the room sees what is sent, with its id and in the same order: so does who sends. */
function optionsOf(isPrivate: boolean): ChannelOptions {
  return { config: { private: isPrivate, broadcast: { self: true } } };
}

/** Has this client be present in a room. @returns how that ends */
export function appear(room: Room, payload: Loose): () => void {
  const holder = Symbol("presence");
  room.present.set(holder, payload);
  show(room);
  return () => {
    room.present.delete(holder);
    // The channel is about to be left, or another hook is still there.
    setTimeout(() => {
      if (room.holders > 0) show(room);
    });
  };
}

function show(room: Room): void {
  const newest = [...room.present.values()].at(-1);
  if (newest === room.shown) return;
  room.shown = newest;
  // Its failure is told by the client's onError.
  (newest === undefined ? room.channel.untrack() : room.channel.track(newest)).catch(() => {});
}
