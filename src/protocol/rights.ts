// Rights: what somebody may do in a private room, as membership or policies say (protocol.md §12).
import * as z from "zod";

/** `failed`: the policy that should have said raised an error. */
const rightSchema = z.enum(["granted", "denied", "failed"]);

export const rightsSchema = z.object({
  read: z.object({ broadcast: rightSchema, presence: rightSchema }),
  /** `persistence`: to have broadcasts kept in the database (§6.9). */
  write: z.object({ broadcast: rightSchema, presence: rightSchema, persistence: rightSchema }),
});

export type Right = z.infer<typeof rightSchema>;
export type Rights = z.infer<typeof rightsSchema>;

/** What everybody has in a public room, and the service role everywhere. */
export const allRights: Rights = {
  read: { broadcast: "granted", presence: "granted" },
  write: { broadcast: "granted", presence: "granted", persistence: "granted" },
};

export const noRights: Rights = {
  read: { broadcast: "denied", presence: "denied" },
  write: { broadcast: "denied", presence: "denied", persistence: "denied" },
};

/** Whoever may read something may join. */
export function mayJoin({ read }: Rights): boolean {
  return read.broadcast === "granted" || read.presence === "granted";
}
