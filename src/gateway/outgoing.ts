// Outgoing messages: the frames of one message, each made once for all who need it.
import { encodeUserBroadcast } from "../protocol/binary.ts";
import { selectColumns } from "../protocol/changes.ts";
import { encodeFrame } from "../protocol/codec.ts";
import type { Version } from "../protocol/frames.ts";
import { type JsonText, withMember } from "../protocol/json.ts";
import type { Access, Message, Viewer } from "../protocol/link.ts";
import type { Change, Selection } from "./bindings.ts";
import { type Row, rowOf, tableOf } from "./row.ts";
import { type Share, Shares } from "./shares.ts";

export type Frame = string | Uint8Array;

/** A message on its way to the sockets of one gateway. */
export class Outgoing implements Change {
  readonly message: Message;
  readonly #epoch: string;
  readonly #frames = new Map<string, Frame | undefined>();
  readonly #selections = new Map<string, JsonText>();
  readonly #shares: Shares;
  #table: string | undefined;
  #row: Row | undefined;

  constructor(message: Message, epoch: string) {
    this.message = message;
    this.#epoch = epoch;
    this.#shares = new Shares(message.access, this.#text);
  }

  get operation(): string {
    return this.message.event;
  }

  get table(): string {
    this.#table ??= tableOf(this.#text);
    return this.#table;
  }

  /** How often patterns could not be tried on it, so far. */
  get undecided(): number {
    return this.#row?.undecided ?? 0;
  }

  /** The row that filters judge. */
  get row(): Row {
    this.#row ??= rowOf(this.#text);
    return this.#row;
  }

  get sight(): Access | undefined {
    return this.message.access;
  }

  get unauthorized(): readonly string[] {
    return this.message.access?.unauthorized ?? [];
  }

  /** How much of the message somebody gets; undefined: nothing. */
  shareOf(viewer: Viewer): Share | undefined {
    return this.#shares.of(viewer);
  }

  /** The frame of the message on its own topic. Undefined: this version has no form for it (binary on 1.0.0). */
  frame(version: Version, topic: string, share: Share): Frame | undefined {
    return this.#once(`${version} ${share.key}`, () => this.#encode(version, topic, null, share));
  }

  /** The frame of the message as part of the past, for the one session that asked. */
  replayed(version: Version, topic: string, joinRef: string | null, share: Share): Frame | undefined {
    return this.#encode(version, topic, joinRef, share, '"replayed":true,');
  }

  /** The frame of a row change for a channel whose subscriptions `ids` match it (protocol.md §8.6). */
  change(
    version: Version,
    topic: string,
    ids: readonly number[],
    share: Share,
    selection: Selection | undefined,
  ): Frame | undefined {
    const key = ids.join(",");
    return this.#once(`${version} ${key} ${share.key} ${selection?.key} ${topic}`, () => {
      const payload = `{"ids":[${key}],"data":${this.#selected(share, selection)},"meta":${this.#meta()}}`;
      return encodeFrame(version, null, null, topic, "postgres_changes", payload);
    });
  }

  /** The frame of a row change for a channel whose topic names the table (protocol.md §3.6). */
  bare(version: Version, topic: string, share: Share): Frame | undefined {
    return this.#once(`${version} bare ${share.key} ${topic}`, () =>
      encodeFrame(version, null, null, topic, this.message.event, withMember(share.data, "meta", this.#meta())),
    );
  }

  #selected(share: Share, selection: Selection | undefined): JsonText {
    if (selection === undefined) return share.data;
    const key = `${share.key} ${selection.key}`;
    const cut = this.#selections.get(key) ?? selectColumns(share.data, selection.columns);
    this.#selections.set(key, cut);
    return cut;
  }

  /** The body of what is not binary, such as a row change. */
  get #text(): JsonText {
    return typeof this.message.body === "string" ? this.message.body : "{}";
  }

  #once(key: string, encode: () => Frame | undefined): Frame | undefined {
    if (!this.#frames.has(key)) this.#frames.set(key, encode());
    return this.#frames.get(key);
  }

  /**
   * Where the message stands and who sent it: `{ id, epoch, seq, at, sender }`, the last one where it is known. Of a row
   * change also `tx`, its transaction, and `commit: true` on the last one that its table has of that.
   */
  #meta(extra = "", withSender = true): JsonText {
    const { id, seq, at, sender, tx } = this.message;
    const from = sender === null || !withSender ? "" : `,"sender":${JSON.stringify(sender)}`;
    const part = tx === undefined ? "" : `,"tx":${JSON.stringify(tx.id)}${tx.last ? ',"commit":true' : ""}`;
    return `{${extra}"id":${JSON.stringify(id)},"epoch":"${this.#epoch}","seq":${seq},"at":${at}${from}${part}}`;
  }

  #encode(version: Version, topic: string, joinRef: string | null, share: Share, extra = ""): Frame | undefined {
    const { event, name, body } = this.message;
    if (typeof body === "string") {
      return encodeFrame(version, joinRef, null, topic, event, withMember(share.data, "meta", this.#meta(extra)));
    }
    // The metadata of a binary frame holds 255 bytes, which a long user id alone can fill.
    return version === "2.0.0"
      ? (encodeUserBroadcast(topic, name, this.#meta(extra), body) ??
          encodeUserBroadcast(topic, name, this.#meta(extra, false), body))
      : undefined;
  }
}
