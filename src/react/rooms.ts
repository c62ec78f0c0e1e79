// Rooms: the channels that hooks have in common, left when the last one of them is unmounted.
import type { Channel, ChannelOptions, Loose, RealtimeClient } from "@nself/client";

/** A channel and how many hold it: hooks, and what they are sending. */
export interface Room {
  readonly channel: Channel;
  holders: number;
  /** Hooks that are present, with what they track: the newest counts. */
  readonly present: Map<symbol, Loose>;
}

const rooms = new WeakMap<RealtimeClient, Map<string, Room>>();

/**
 * Enters a room. Who enters the same room shares its channel, so that `private` is what the first one said. @returns the
 * room, and how it is left
 */
export function enter(client: RealtimeClient, name: string, isPrivate: boolean): [Room, () => void] {
  const own = rooms.get(client) ?? new Map<string, Room>();
  rooms.set(client, own);
  const room = own.get(name) ?? { channel: client.channel(name, optionsOf(isPrivate)), holders: 0, present: new Map() };
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

function show({ channel, present }: Room): void {
  const newest = [...present.values()].at(-1);
  // Its failure is told by the client's onError.
  (newest === undefined ? channel.untrack() : channel.track(newest)).catch(() => {});
}
