// The blocks as an object has heard of them last: they hold from its wake on, and need not be sent to it again.
import type { BlockList } from "../../protocol/blocks.ts";
import { partsOf } from "./channel-store.ts";
import type { Tables } from "./tables.ts";

/** Additive only. As text in a few rows: what is billed is rows, and every change goes to every object. */
export const blockTables = ["CREATE TABLE IF NOT EXISTS kept_blocks (part INTEGER PRIMARY KEY, text TEXT NOT NULL)"];

export class KeptBlocks {
  readonly #tables: Tables;

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  /** Of revision 0 while nothing is kept. */
  get list(): BlockList {
    const parts = this.#tables.read<{ text: string }>("SELECT text FROM kept_blocks ORDER BY part");
    return parts.length === 0 ? { revision: 0, blocks: [] } : JSON.parse(parts.map(({ text }) => text).join(""));
  }

  put(list: BlockList): void {
    // Most objects never hear of any block, and keep nothing.
    if (list.blocks.length === 0 && this.list.blocks.length === 0) return;
    this.#tables.erase("DELETE FROM kept_blocks");
    for (const [part, text] of partsOf(JSON.stringify(list)).entries()) {
      this.#tables.write("INSERT INTO kept_blocks (part, text) VALUES (?, ?)", part, text);
    }
  }
}
