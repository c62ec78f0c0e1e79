// Reading: what the server's payloads say, in the shapes that applications get.
import { isRecord } from "../protocol/client-frames.ts";
import type { Position } from "../protocol/positions.ts";
import type { Broadcast, MessageMeta, RowChange, RowEvent, SystemMessage } from "./types.ts";

type Fields = Readonly<Record<string, unknown>>;

/** A position; undefined where there is none. */
export function readPosition(value: unknown): Position | undefined {
  if (!isRecord(value) || typeof value.epoch !== "string" || typeof value.seq !== "number") return undefined;
  return { epoch: value.epoch, seq: value.seq };
}

function readMeta(value: unknown): MessageMeta {
  const fields = isRecord(value) ? value : {};
  const { epoch = "", seq = 0 } = readPosition(value) ?? {};
  return { ...fields, id: String(fields.id ?? ""), at: Number(fields.at ?? 0), epoch, seq };
}

export function readBroadcast({ event, payload, meta }: Fields): Broadcast {
  // What others send need not be an object; it is passed on as it came.
  const content = isRecord(payload) || payload instanceof Uint8Array ? payload : Object(payload ?? {});
  return { type: "broadcast", event: String(event), payload: content, meta: readMeta(meta) };
}

/** A row change as a feed's frame has it (protocol.md §8.6). */
export function readRow(data: Fields): RowChange {
  const { schema, table, type, commit_timestamp, record, old_record, errors, meta } = data;
  return {
    eventType: readOperation(type),
    schema: String(schema),
    table: String(table),
    commit_timestamp: String(commit_timestamp),
    new: isRecord(record) ? record : {},
    old: isRecord(old_record) ? old_record : {},
    errors: Array.isArray(errors) ? errors.map(String) : null,
    meta: readMeta(meta),
  };
}

/** A row change as a subscription's frame has it. */
export function readSubscribedRow({ data, meta }: Fields): RowChange {
  return readRow({ ...(isRecord(data) ? data : {}), meta });
}

function readOperation(type: unknown): RowEvent {
  return type === "UPDATE" || type === "DELETE" ? type : "INSERT";
}

export function readSystem({ extension, status, message }: Fields): SystemMessage {
  return { extension: String(extension), status: status === "ok" ? "ok" : "error", message: String(message) };
}
