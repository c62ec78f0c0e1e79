// Row changes: the batch that the listener posts, and the text of a change as clients get it (protocol.md §8.6).
import * as z from "zod";
import { cutMembers, exceeds, isObject, type JsonText, mapMembers, members, parseJson } from "./json.ts";
import type { Transaction } from "./link.ts";
import { boundedText } from "./text.ts";
import { parseFeedName } from "./topics.ts";

/**
 * Most changes in one batch, and most bytes, of which the largest message in base64 needs most: a larger batch is
 * refused with 413 and comes again in parts.
 */
const MAX_BATCH_CHANGES = 1_000;
export const MAX_BATCH_BYTES = 15_000_000;
/**
 * Largest change, bytes of its `data`: an update of a 5 MB row has two images of it. Larger ones would not leave a batch
 * room for anything beside them.
 */
const MAX_CHANGE_BYTES = 12_000_000;

const names = z.array(z.string());

/** Row-level security as the listener describes it. Missing from a description that says `rls`: nobody sees a row. */
const securitySchema = z.object({
  /** Roles that pass it by. */
  free: names,
  /** The columns that policies read, in the table's order; null: one of them cannot be had from an image. */
  columns: names.nullable(),
  /** Columns of PostgreSQL's own types whose equal values are equal texts. */
  plain: names,
  /** Which of auth.uid, auth.jwt and auth.role are the functions that everybody knows by these names. */
  known: names,
  /** Some policy, or a function that it calls, reads claims that change with every token. */
  volatile: z.boolean(),
  /** Those that SELECT asks, as PostgreSQL writes them with nothing in its search_path; `roles` are those they are for. */
  policies: z.array(z.object({ permissive: z.boolean(), roles: names, using: z.string() })),
});

const tableSchema = z.object({
  schema: z.string(),
  table: z.string(),
  generation: z.number().int(),
  /** `readers` is absent where every reader of the table may SELECT the column. */
  columns: z.array(z.object({ name: z.string(), type: z.string(), readers: names.optional() })),
  primaryKey: names,
  rls: z.boolean(),
  security: securitySchema.nullish(),
  /** Roles that may SELECT the table, or columns of it. */
  readers: names,
});

const headerSchema = z.object({
  v: z.literal(1),
  source: boundedText(1, 64),
  epoch: z.number().int().nonnegative(),
  batch: z.number().int().nonnegative(),
  redelivered: z.boolean(),
  feed: boundedText(0, 300).refine(
    (feed) => parseFeedName(feed) !== undefined,
    "names no feed: it is <schema>.<table>",
  ),
  tables: z.record(z.string(), tableSchema),
});

/** What the `op` of a change stands for. */
export const operations = {
  I: "INSERT",
  U: "UPDATE",
  D: "DELETE",
  T: "TRUNCATE",
  i: "INSERT",
  u: "UPDATE",
  d: "DELETE",
  /** No change of a row: some are missing here. */
  G: "GAP",
} as const;

/** That an image is an object at all is what its readers rely on. */
const rowImage = z.custom<object | null>((image) => image === null || isObject(image), "must be a row").optional();

const changeSchema = z.object({
  id: boundedText(1, 40),
  x: boundedText(0, 40),
  /** The last of its transaction on this feed. */
  last: z.boolean().default(false),
  r: z.number().int(),
  op: z.enum(["I", "U", "D", "T", "i", "u", "d", "G"]),
  at: boundedText(0, 40),
  new: rowImage,
  old: rowImage,
  errors: z.array(z.string()).optional(),
});

export type TableDescription = z.infer<typeof tableSchema>;
export type RowSecurity = z.infer<typeof securitySchema>;
export type BatchHeader = z.infer<typeof headerSchema>;
export type Operation = (typeof operations)[keyof typeof operations];

/** One row change of a batch, its `data` ready to be sent. */
export interface RowChange {
  readonly id: string;
  readonly operation: Operation;
  readonly data: JsonText;
  readonly table: TableDescription;
  readonly tx?: Transaction;
}

export interface Batch {
  readonly header: BatchHeader;
  readonly changes: readonly RowChange[];
}

/** A batch that cannot be taken; the message names the line and what is wrong with it, or the limit that it passes. */
export class BadBatch extends Error {
  override readonly name = "BadBatch";
  /** 413 asks the listener to send it in parts; after 400 it would be as bad the next time. */
  readonly status: 400 | 413;
  constructor(message: string, status: 400 | 413 = 400) {
    super(message);
    this.status = status;
  }
}

/** Reads a batch: a line of header, then a line a change, unparsed. Throws BadBatch. */
export function openBatch(body: string): { header: BatchHeader; lines: string[] } {
  if (exceeds(body, MAX_BATCH_BYTES)) throw new BadBatch(`a batch holds at most ${MAX_BATCH_BYTES} bytes`, 413);
  const lines = body.split("\n").filter((line) => line !== "");
  const [first, ...rest] = lines;
  if (first === undefined) throw new BadBatch("the batch is empty: its first line must be the header");
  const header = parseLine(headerSchema, first, "line 1 (header)");
  if (rest.length > MAX_BATCH_CHANGES) {
    throw new BadBatch(`a batch holds at most ${MAX_BATCH_CHANGES} changes`, 413);
  }
  return { header, lines: rest };
}

/**
 * Reads the lines of a batch of row changes. Row images are cut out as text and never re-serialised, so a bigint keeps
 * its digits; nor are they parsed where they end their line, for whoever signed the batch has them from PostgreSQL. Throws
 * BadBatch.
 */
export function parseChanges(header: BatchHeader, lines: readonly string[]): RowChange[] {
  const texts = new Map(Object.entries(header.tables).map(([relid, table]) => [relid, new TableTexts(table)]));
  return lines.map((line, index) => parseChange(texts, line, index + 2));
}

/** What the changes of a table have in common, as text. */
class TableTexts {
  readonly table: TableDescription;
  readonly name: string;
  readonly columns: string;
  readonly bytes: ReadonlySet<string>;

  constructor(table: TableDescription) {
    this.table = table;
    this.name = `"schema":${JSON.stringify(table.schema)},"table":${JSON.stringify(table.table)}`;
    this.columns = `"columns":${JSON.stringify(table.columns.map(({ name, type }) => ({ name, type })))}`;
    this.bytes = new Set(table.columns.filter(({ type }) => type === "bytea").map(({ name }) => name));
  }
}

function parseChange(texts: ReadonlyMap<string, TableTexts>, line: string, number: number): RowChange {
  const { head, images } = partsOf(line);
  const change = parseLine(changeSchema, head, `line ${number}`);
  const text = texts.get(String(change.r));
  if (text === undefined) throw new BadBatch(`line ${number}: the header describes no table ${change.r}`);
  const { table, name, columns, bytes } = text;
  const operation = operations[change.op];
  const { new: record, old: oldRecord } = images ?? cutImages(line);
  const rows = rowText("record", record, bytes) + rowText("old_record", oldRecord, bytes);
  const errors = change.errors === undefined ? "null" : JSON.stringify(change.errors);
  const data = `{${name},"type":"${operation}","commit_timestamp":${JSON.stringify(change.at)},${columns}${rows},"errors":${errors}}`;
  if (exceeds(data, MAX_CHANGE_BYTES)) {
    throw new BadBatch(`line ${number}: a change holds at most ${MAX_CHANGE_BYTES} bytes`, 413);
  }
  return { id: change.id, operation, data, table, tx: { id: change.x, last: change.last } };
}

interface Images {
  readonly new?: JsonText;
  readonly old?: JsonText;
}

const newMember = ',"new":';
const oldMember = ',"old":';

/** A line that ends with its only image without that; any other is all head. */
function partsOf(line: string): { head: string; images?: Images } {
  // In a string of JSON the quotes would be escaped, so the first of these is the member.
  const newAt = line.indexOf(newMember);
  const oldAt = line.indexOf(oldMember);
  const [hasNew, hasOld] = [newAt >= 0, oldAt >= 0];
  const at = hasNew ? newAt : oldAt;
  const image = line.slice(at + newMember.length, -1);
  if (hasNew === hasOld || !image.startsWith("{") || !line.endsWith("}}")) return { head: line };
  return { head: `${line.slice(0, at)}}`, images: hasNew ? { new: image } : { old: image } };
}

/** The texts of the members `new` and `old` of a change line that are there and not null. */
function cutImages(line: string): Images {
  const cut = cutMembers(line, ["new", "old"]);
  const there = (image: JsonText | undefined): boolean => image !== undefined && image !== "null";
  return { ...(there(cut.new) && { new: cut.new }), ...(there(cut.old) && { old: cut.old }) };
}

function rowText(member: "record" | "old_record", image: JsonText | undefined, bytes: ReadonlySet<string>): string {
  if (image === undefined) return "";
  const row = bytes.size === 0 ? image : mapMembers(image, (column, text) => withoutHexMark(bytes, column, text));
  return `,"${member}":${row}`;
}

function parseLine<T>(schema: z.ZodType<T>, line: string, where: string): T {
  const value = parseJson(line);
  if (value === undefined) throw new BadBatch(`${where}: not JSON`);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new BadBatch(`${where}: ${issue?.path.join(".") ?? ""} ${issue?.message ?? "has the wrong shape"}`);
}

/** A row of a change's `data`, with what clients do not get of it again: an image as PostgreSQL can read it. */
export function imageOf(data: JsonText, member: "record" | "old_record"): JsonText | undefined {
  let bytes: ReadonlySet<string> = new Set();
  for (const [name, value] of members(data)) {
    if (name === "columns") bytes = new Set(bytesColumns(JSON.parse(value)));
    else if (name === member) {
      return bytes.size === 0 ? value : mapMembers(value, (column, text) => withHexMark(bytes, column, text));
    }
  }
  return undefined;
}

function* bytesColumns(columns: unknown): Generator<string> {
  for (const column of Array.isArray(columns) ? columns : []) {
    if (isObject(column) && column.type === "bytea") yield String(column.name);
  }
}

function withHexMark(bytes: ReadonlySet<string>, column: string, text: JsonText): JsonText {
  return bytes.has(column) && text.startsWith('"') ? `"\\\\x${text.slice(1)}` : text;
}

/** Clients get bytea as hex digits alone, while PostgreSQL's JSON has its `\\x` before them (protocol.md §8.6). */
function withoutHexMark(bytes: ReadonlySet<string>, column: string, text: JsonText): JsonText {
  return bytes.has(column) && text.startsWith('"\\\\x') ? `"${text.slice(4)}` : text;
}

/** The `data` of a change of which its role may read nothing, not even the key (protocol.md §8.6). */
export function unauthorizedData(data: JsonText): JsonText {
  return mapMembers(data, (member, text) => {
    if (member === "columns") return "[]";
    if (member === "record") return "{}";
    if (member === "commit_timestamp") return "null";
    if (member === "errors") return '["Error 401: Unauthorized"]';
    return member === "old_record" ? undefined : text;
  });
}

/** The `data` of a change with no more than these columns of the row as it was. */
export function selectBefore(data: JsonText, selected: ReadonlySet<string>): JsonText {
  return mapMembers(data, (member, text) =>
    member === "old_record" ? mapMembers(text, (column, value) => (selected.has(column) ? value : undefined)) : text,
  );
}

/** The `data` of a change with no more than these columns, in the rows and in the list of columns (protocol.md §8.6). */
export function selectColumns(data: JsonText, selected: ReadonlySet<string>): JsonText {
  return mapMembers(data, (member, text) => {
    if (member === "columns") {
      const columns: unknown = JSON.parse(text);
      const named = (column: unknown): boolean => isObject(column) && selected.has(String(column.name));
      return JSON.stringify(Array.isArray(columns) ? columns.filter(named) : []);
    }
    if (member !== "record" && member !== "old_record") return text;
    return mapMembers(text, (column, value) => (selected.has(column) ? value : undefined));
  });
}
