// Persistence: whether a broadcast is to be kept, and for how long (protocol.md §6.9).

/** Longest time, and the one meant when none is named: 72 h. */
export const MAX_PERSIST_TTL_S = 259_200;

/** That a broadcast is to be kept for so many seconds. */
export interface Persist {
  readonly ttl: number;
}

/**
 * Reads the option `persist` of a broadcast: `true`, `{}` and `{ "ttl": null }` mean the longest time, false and null
 * that it is not kept. "invalid": a time that is no whole number of seconds from 1 to 259200, or something else.
 */
export function parsePersist(option: unknown): Persist | undefined | "invalid" {
  if (option === undefined || option === null || option === false) return undefined;
  if (option === true) return { ttl: MAX_PERSIST_TTL_S };
  if (typeof option !== "object" || Array.isArray(option)) return "invalid";
  const ttl: unknown = "ttl" in option ? option.ttl : null;
  if (ttl === null) return { ttl: MAX_PERSIST_TTL_S };
  const seconds = typeof ttl === "string" && /^\d+$/.test(ttl) ? Number(ttl) : ttl;
  if (typeof seconds !== "number" || !Number.isInteger(seconds)) return "invalid";
  return seconds >= 1 && seconds <= MAX_PERSIST_TTL_S ? { ttl: seconds } : "invalid";
}
