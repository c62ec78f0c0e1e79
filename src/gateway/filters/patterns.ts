// Patterns: what LIKE and regular expressions have in common, and what bounds the work of matching one.

export interface Pattern {
  /** What a character of a text costs at most, in steps of about ten nanoseconds. */
  readonly weight: number;
  matches(text: string): boolean;
}

/** Longest pattern of any kind, UTF-16 units. */
export const MAX_PATTERN_LENGTH = 256;
/** Most steps of one match. Patterns are written by anybody, and a gateway does nothing else while it matches one. */
const MAX_STEPS = 5_000_000;

/** Whether a text matches; null, which passes nothing, where finding out could take too long. */
export function matchesWithin(pattern: Pattern, text: string): boolean | null {
  return text.length * pattern.weight > MAX_STEPS ? null : pattern.matches(text);
}
