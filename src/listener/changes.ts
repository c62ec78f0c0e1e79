// What the outbox holds and where a reader is in it.

/**
 * I, U, D, T: a row inserted, updated, deleted, a table truncated. i, u, d: rows of a large statement of which the keys
 * were captured, as a JSON list in `new` or `old`; once read, a row and change of its own. G: changes may be missing.
 */
export type Op = "I" | "U" | "D" | "T" | "i" | "u" | "d" | "G";

const ops: ReadonlySet<string> = new Set<Op>(["I", "U", "D", "T", "i", "u", "d", "G"]);

export function isOp(text: string): text is Op {
  return ops.has(text);
}

/** So many keys are at most in one row of the outbox. */
export const keysInList = 500;

export function isKeyList({ op }: Change): boolean {
  return op === "i" || op === "u" || op === "d";
}

/** One captured change. Images are JSON text exactly as PostgreSQL wrote them: never parsed, so no digit is lost. */
export interface Change {
  /** Unique in its database and never reused: a bigint in decimal, and for a row of a key list `.` and its number there. */
  seq: string;
  xid: string;
  relid: string;
  op: Op;
  /** ISO 8601, UTC, milliseconds. */
  at: string;
  new: string | null;
  old: string | null;
  /** Why values that clients expect are not in the images. */
  error?: string;
}

/**
 * A reader's place. Everything that the snapshot `seen` sees has been read. With a `target` the reader is inside
 * the difference from `seen` to `target`, in order of seq, past `page`.
 */
export interface Place {
  seen: string;
  target: string | null;
  page: string;
}

export interface Snapshot {
  xmin: bigint;
  xmax: bigint;
  /** Transactions that were in progress, decimal. */
  inProgress: string[];
}

/** Reads PostgreSQL's text form of a snapshot, `xmin:xmax:xip,xip`. */
export function parseSnapshot(text: string): Snapshot {
  const [xmin = "", xmax = "", inProgress = ""] = text.split(":");
  return { xmin: BigInt(xmin), xmax: BigInt(xmax), inProgress: inProgress === "" ? [] : inProgress.split(",") };
}
