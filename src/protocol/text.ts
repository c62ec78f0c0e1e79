// Text of a bounded length, as a schema for doors.
import * as z from "zod";

/**
 * A string of `min` to `max` UTF-16 units. zod's own `min` and `max` compare the `length` of whatever has one, and throw a
 * TypeError on `{"length": {"toString": 1}}`: a refinement runs on strings alone.
 */
export function boundedText(min: number, max: number) {
  return z.string().refine(({ length }) => length >= min && length <= max, `holds ${min} to ${max} characters`);
}
