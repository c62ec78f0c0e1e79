// Times as people read them.
import prettyMilliseconds from "pretty-ms";

/** `2026-01-30 10:15:23`, in UTC, of an ISO time or unix milliseconds. */
export function stamp(time: string | number): string {
  return new Date(time).toISOString().slice(0, 19).replace("T", " ");
}

/** `5s ago`, `12m ago`, `2h ago`, `3d ago`. */
export function ago(seconds: number): string {
  return `${span(seconds)} ago`;
}

/** As `ago`, with `now` for the last minute. */
export function lastSeen(seconds: number): string {
  return seconds < 60 ? "now" : ago(seconds);
}

function span(seconds: number): string {
  return seconds < 1 ? "0s" : prettyMilliseconds(seconds * 1000, { compact: true });
}

/** Whole seconds since an ISO time; never negative. */
export function secondsSince(time: string): number {
  return Math.max(0, Math.floor((Date.now() - Date.parse(time)) / 1000));
}

/** `1 channel`, `1,203 channels`. */
export function some(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** `1,203`. */
export function count(number: number): string {
  return number.toLocaleString("en-US");
}
