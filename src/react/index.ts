// @nself/react: what applications import.
"use client";

export { RealtimeProvider, useRealtimeClient } from "./provider.ts";
export { type Message, type Online, type UseChannel, type UseChannelOptions, useChannel } from "./use-channel.ts";
