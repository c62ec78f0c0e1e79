// What is wrong with an input, in words for people, where its schema has none of its own.
import type * as z from "zod";

const KINDS: Readonly<Record<string, string>> = {
  array: "a list",
  boolean: "true or false",
  int: "a whole number",
  number: "a number",
  object: "an object",
  record: "an object",
  string: "a text",
};

const FORMATS: Readonly<Record<string, string>> = {
  datetime: "a time in ISO 8601",
  guid: "an id such as 6c1f2a9e-8f57-4c52-9d0a-2f6f0f6b7a11",
};

/** What bounds of a text or a list count; those of a number are of itself. */
const COUNTED: Readonly<Record<string, string>> = { string: " characters", array: " entries" };

/** An error map of zod: undefined leaves the issue to zod's own words. */
export const inWords: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case "invalid_type": {
      if (issue.input === undefined) return "must be given";
      const kind = KINDS[issue.expected];
      return kind && `must be ${kind}`;
    }
    case "too_big":
      return `must be at most ${issue.maximum}${COUNTED[issue.origin] ?? ""}`;
    case "too_small":
      if (issue.minimum === 1 && issue.origin in COUNTED) return "must not be empty";
      return `must be at least ${issue.minimum}${COUNTED[issue.origin] ?? ""}`;
    case "invalid_format": {
      const format = FORMATS[issue.format];
      return format && `must be ${format}`;
    }
    case "unrecognized_keys":
      return `${issue.keys.map((key) => JSON.stringify(key)).join(", ")}: not known here`;
    default:
      return issue.input === undefined ? "must be given" : undefined;
  }
};
