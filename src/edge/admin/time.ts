// Points in time as users write them.

const ISO = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}(?::?\d{2})?)?)?$/i;

/**
 * Reads a point in time: ISO 8601 (its offset honoured, UTC when it has none), unix seconds (10 digits) or unix
 * milliseconds (13 digits). Answers unix milliseconds; undefined when it is none of these, or no day of the calendar.
 */
export function parseTime(text: string): number | undefined {
  if (/^\d{10}$/.test(text)) return Number(text) * 1000;
  if (/^\d{13}$/.test(text)) return Number(text);
  if (!ISO.test(text)) return undefined;
  const [date = "", clock = ""] = text.toUpperCase().split(/[T ]/);
  const [time = "", offset = "Z"] = clock === "" ? ["00:00"] : splitOffset(clock);
  const at = Date.parse(`${date}T${time}${offset}`);
  return Number.isNaN(at) || !isCalendarDay(date) ? undefined : at;
}

function splitOffset(clock: string): [string, string] {
  const at = clock.search(/[Z+-]/);
  if (at < 0) return [clock, "Z"];
  const offset = clock.slice(at);
  const digits = offset.replace(":", "");
  return [clock.slice(0, at), offset === "Z" ? "Z" : `${digits.slice(0, 3)}:${digits.slice(3) || "00"}`];
}

/** `Date.parse` takes 30 February for 1 March. */
function isCalendarDay(date: string): boolean {
  return new Date(`${date}T00:00Z`).toISOString().startsWith(date);
}

/** Whole seconds since a time, in unix ms; never negative, whatever the clocks say. */
export function secondsSince(at: number): number {
  return Math.max(0, Math.floor((Date.now() - at) / 1000));
}
