// Kinds of values that settings have. They arrive as text; what is out of bounds is refused by name, never adjusted.
import * as z from "zod";

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

export const text = z.string();
export const secret = text.min(32, { error: "must be at least 32 characters long" });

/** A number in digits alone: nothing at all is no zero. */
export function whole(least: number, most: number) {
  const error = `must be a whole number from ${least} to ${most}`;
  const digits = text.regex(/^\d+$/, { error }).transform(Number);
  return digits.pipe(z.number().min(least, { error }).max(most, { error }));
}

export function port(least = 1) {
  const error = `must be a port number from ${least} to 65535`;
  const digits = text.regex(/^\d+$/, { error }).transform(Number);
  return digits.pipe(z.number().min(least, { error }).max(65_535, { error }));
}

/** One of two words, or of more. */
export function oneOf<const Words extends readonly [string, ...string[]]>(words: Words) {
  return z.enum(words, {
    error: `must be ${words.length > 2 ? "one of " : ""}${words.join(words.length > 2 ? ", " : " or ")}`,
  });
}

export const databaseError = "must be a URL such as postgresql://user:password@host:5432/database";
export const databaseUrl = z.url({ protocol: /^postgres(ql)?$/, error: databaseError });

export const httpUrl = z.url({ protocol: /^https?$/, error: "must be an http(s) URL such as http://127.0.0.1:4000" });

/** https, or http on this machine, without user and password. */
export function isSafeUrl(given: string): boolean {
  const url = URL.parse(given);
  if (url === null || url.username !== "" || url.password !== "") return false;
  return url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.test(url.hostname));
}

/**
 * Has a setting say what it does, and what holds without it where that is no constant (`documented.ts`). To be called
 * last: what is made of a schema knows nothing of it.
 */
export function says<Schema extends z.ZodType>(schema: Schema, description: string, otherwise?: string): Schema {
  return schema.meta(otherwise === undefined ? { description } : { description, otherwise });
}
