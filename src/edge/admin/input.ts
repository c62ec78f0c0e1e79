// Input of the admin API: schemas at the door, and refusals that name what is wrong.
import { validator } from "hono/validator";
import * as z from "zod";
import { exceeds } from "../../protocol/json.ts";
import { channelLimits } from "../../protocol/limits.ts";
import { saying } from "./operation.ts";
import { Problem } from "./problem.ts";
import { inWords } from "./words.ts";

/** Longest channel name, reference, user id and event name, in UTF-16 units: each is part of a topic, a row or a frame. */
export const MAX_NAME_LENGTH = 200;
/** Largest metadata of a channel or of a presence, bytes of JSON. */
const MAX_METADATA_BYTES = 100_000;

/** A point in time, as answers have it. */
export const time = z.iso.datetime();

export const name = z.string().min(1).max(MAX_NAME_LENGTH);

export const reference = name.meta({ description: "A channel: its slug, id or name." });
export const userId = name.meta({ description: "Id of a user." });

/** A JSON object of the user's own. */
export const metadata = z
  .record(z.string(), z.unknown(), { error: "must be a JSON object" })
  .refine((value) => !exceeds(JSON.stringify(value), MAX_METADATA_BYTES), {
    error: `must not be larger than ${MAX_METADATA_BYTES} bytes of JSON`,
  });

const NO_MOST = "must be a whole number from 1 on";

/** What the server itself reads of a channel's metadata (`protocol/limits.ts`). */
const readOfMetadata = z.looseObject({
  max_members: z
    .int({ error: NO_MOST })
    .min(1, { error: NO_MOST })
    .optional()
    .meta({ description: "How many members it takes." }),
  invite_only: z
    .boolean({ error: "must be true or false" })
    .optional()
    .meta({ description: "Nobody becomes a member of a presence channel by joining it." }),
  limits: channelLimits.optional().meta({ description: "The channel's own limits, in place of the settings." }),
});

/** That of a channel: what the server reads of it must make sense. */
export const channelMetadata = metadata.pipe(readOfMetadata).meta({
  description: "Your own, but for what the server reads of it.",
  properties: z.toJSONSchema(readOfMetadata).properties,
});

/** An age in hours; the most is a hundred years, older than any message. */
export const ageHours = z.number().int().min(0).max(876_000);

/** Parses the JSON body of a request. */
export const body = <Schema extends z.ZodType>(schema: Schema) =>
  saying(
    validator("json", (value, c) => {
      // Hono reads a body only when it is declared as JSON, and gives `{}` else.
      if (!c.req.header("content-type")?.includes("json")) {
        throw new Problem("invalid_request", "the body must be JSON, sent with content-type: application/json");
      }
      return parse(schema, value);
    }),
    { body: schema },
  );

/** Parses the query of a request. Its values stay text, as clients send them; routes read numbers and times from it. */
export const query = <Schema extends z.ZodType>(schema: Schema) =>
  saying(
    validator("query", (value) => parse(schema, value)),
    { query: schema },
  );

/** Parses path parameters of a request. */
export const path = <Schema extends z.ZodType>(schema: Schema) =>
  saying(
    validator("param", (value) => parse(schema, value)),
    { path: schema },
  );

/** The channel that a path names. */
export const channelPath = path(z.object({ channel: reference }));

/** The user that a path names. */
export const userPath = path(z.object({ user: userId }));

/** Parses what was given. Throws `invalid_request` that names what is wrong. */
export function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value, { error: inWords });
  if (result.success) return result.data;
  const reasons = result.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.join(".")}: ${message}`,
  );
  throw new Problem("invalid_request", reasons.join("; "));
}
