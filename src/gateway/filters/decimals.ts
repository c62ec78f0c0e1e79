// Decimals as text: compared digit by digit, since a double holds 15 of them and PostgreSQL up to 131,072.

/**
 * The spelling that equal decimals share: no plus sign, no zeros that say nothing. What has an exponent is left as it
 * is: PostgreSQL writes one for floats alone, each float in one spelling.
 */
export function plainDecimal(text: string): string {
  const [, sign, whole, fraction] = /^([+-]?)0*(\d*)(?:\.(\d*))?$/.exec(text) ?? [];
  if (whole === undefined) return text;
  let end = fraction?.length ?? 0;
  while (end > 0 && fraction?.[end - 1] === "0") end--;
  const digits = `${whole === "" ? "0" : whole}${end === 0 ? "" : `.${fraction?.slice(0, end)}`}`;
  return sign === "-" && digits !== "0" ? `-${digits}` : digits;
}

/** The order of plain decimals, and of `-Infinity`, `Infinity` and `NaN` as PostgreSQL ranks them. */
export function compareDecimals(a: string, b: string): number {
  if (a === b) return 0;
  const [rankA, rankB] = [rankOf(a), rankOf(b)];
  if (rankA !== rankB) return rankA - rankB;
  return rankA < 0 ? compareSizes(b.slice(1), a.slice(1)) : compareSizes(a, b);
}

/** Numbers of one rank and different digits are compared by size; `-Infinity` is below them all, `NaN` above. */
function rankOf(text: string): number {
  if (text === "NaN") return 3;
  if (text === "Infinity") return 2;
  if (text === "-Infinity") return -2;
  return text.startsWith("-") ? -1 : 1;
}

function compareSizes(a: string, b: string): number {
  const [pointA, pointB] = [pointOf(a), pointOf(b)];
  if (pointA !== pointB) return pointA - pointB;
  // Equally many digits before the point: the texts are in the order of the numbers.
  return a < b ? -1 : Number(a > b);
}

function pointOf(digits: string): number {
  const point = digits.indexOf(".");
  return point < 0 ? digits.length : point;
}
