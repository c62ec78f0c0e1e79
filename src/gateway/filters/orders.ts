// Orders of texts that PostgreSQL does not sort as JavaScript does.

/** The order of the bytes: that of collation "C" for ASCII, and of every spelling that sorts as its value does. */
export function byUnits(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** The order of collation "C": by code point. UTF-16 puts what lies beyond the basic plane before U+E000. */
export function byCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const [x, y] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (x !== y) return rankOf(x) - rankOf(y);
  }
  return a.length - b.length;
}

/** Surrogates above all other units. */
function rankOf(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/** Doubles, NaN above all others. */
export function byDouble(a: string, b: string): number {
  const [x, y] = [Number(a), Number(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
  return x < y ? -1 : Number(x > y);
}

const INFINITE = new Map([
  ["-infinity", ""],
  ["infinity", "9"],
]);
const YEARS = 7;

/**
 * A spelling of a date or timestamp, as PostgreSQL's JSON has them, that sorts as it does in time. Undefined for any
 * other spelling, and for a time zone other than UTC.
 */
export function sortableTime(text: string): string | undefined {
  const [, year, rest, before] = /^(\d{4,7})(-[^+ ]*)(?:\+00:00)?( BC)?$/.exec(text) ?? [];
  if (year === undefined) return INFINITE.get(text);
  return before === undefined
    ? `2${year.padStart(YEARS, "0")}${rest}`
    : `1${String(10 ** YEARS - Number(year)).padStart(YEARS, "0")}${rest}`;
}

const DAY_US = 86_400_000_000n;

/**
 * The length of an interval in microseconds, as PostgreSQL compares them: a month is 30 days, a day 24 hours. Reads
 * intervalstyle `postgres`: `1 year 2 mons -3 days +04:05:06.789`. Undefined for anything else, `infinity` included.
 */
export function spanOf(text: string): string | undefined {
  const match =
    /^(?:([+-]?\d+) years? ?)?(?:([+-]?\d+) mons? ?)?(?:([+-]?\d+) days? ?)?(?:([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?$/.exec(
      text,
    );
  if (match === null || text === "") return undefined;
  const [, years, months, days, sign, hours, minutes, seconds, fraction] = match;
  const dayCount = (big(years) * 12n + big(months)) * 30n + big(days);
  const wholeSeconds = (big(hours) * 60n + big(minutes)) * 60n + big(seconds);
  const time = wholeSeconds * 1_000_000n + BigInt((fraction ?? "").padEnd(6, "0"));
  return String(dayCount * DAY_US + (sign === "-" ? -time : time));
}

function big(digits: string | undefined): bigint {
  return BigInt(digits?.replace("+", "") || "0");
}
