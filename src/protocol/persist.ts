// Persistence of a broadcast in the database, as its sender asks for it (protocol.md §6.9).
import { isObject } from "./json.ts";

/** Three days, seconds: what `true` stands for, and the most that may be asked. */
export const MAX_PERSIST_S = 259_200;

/** For how many seconds to keep a message; undefined: not at all. `invalid`: the message is not to be sent. */
export function parsePersist(asked: unknown): number | undefined | "invalid" {
  if (asked === undefined || asked === null || asked === false) return undefined;
  if (asked === true) return MAX_PERSIST_S;
  if (!isObject(asked)) return "invalid";
  const ttl = asked.ttl ?? MAX_PERSIST_S;
  const seconds = typeof ttl === "string" && /^\d+$/.test(ttl) ? Number(ttl) : ttl;
  if (typeof seconds !== "number" || !Number.isInteger(seconds)) return "invalid";
  return seconds >= 1 && seconds <= MAX_PERSIST_S ? seconds : "invalid";
}
