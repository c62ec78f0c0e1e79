// Patterns: what LIKE and regular expressions have in common.

export interface Pattern {
  /** What a character of a text costs at most, in steps of some ten nanoseconds. */
  readonly weight: number;
  matches(text: string): boolean;
}

/** Longest pattern of any kind, UTF-16 units. */
export const MAX_PATTERN_LENGTH = 256;
