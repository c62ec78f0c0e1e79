// @nself/client: what applications import.
export type { Channel } from "./channel.ts";
export { type ClientOptions, RealtimeClient } from "./client.ts";
export type { ConnectionStatus } from "./connection.ts";
export { RealtimeError, type RealtimeErrorCode } from "./errors.ts";
export type { PresenceSync } from "./listeners.ts";
export type { Presence, PresenceChange, PresenceState } from "./presence.ts";
export type {
  Broadcast,
  ChannelOptions,
  Gap,
  Loose,
  MessageMeta,
  Outgoing,
  RowChange,
  RowEvent,
  RowFilter,
  SubscribeStatus,
  SystemMessage,
} from "./types.ts";
