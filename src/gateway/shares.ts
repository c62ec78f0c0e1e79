// Shares: how much of a row change each viewer gets, its data cut once for all who get the same.
import { selectBefore, selectColumns, unauthorizedData } from "../protocol/changes.ts";
import type { JsonText } from "../protocol/json.ts";
import type { Access, Sight, Viewer } from "../protocol/link.ts";

/** What somebody gets of a change; `key` is the same for the same data. */
export interface Share {
  readonly key: string;
  readonly data: JsonText;
}

export class Shares {
  readonly #access: Access | undefined;
  readonly #data: JsonText;
  readonly #cut = new Map<string, Share>();
  readonly #visible: ReadonlySet<string>;
  readonly #visibleBefore: ReadonlySet<string>;

  constructor(access: Access | undefined, data: JsonText) {
    this.#access = access;
    this.#data = data;
    this.#visible = new Set(access?.visible);
    this.#visibleBefore = new Set(access?.before?.visible);
  }

  /** A viewer's share; undefined: none. */
  of({ role, key }: Viewer): Share | undefined {
    const access = this.#access;
    if (access === undefined) return this.#once("", (data) => data);
    if (access.unauthorized?.includes(role)) return this.#once("401", unauthorizedData);
    if (!maySee(access, this.#visible, role, key)) return undefined;
    const { before } = access;
    const hides = before !== undefined && !maySee(before, this.#visibleBefore, role, key);
    const columns = access.columns?.[role];
    return this.#once(`${columns === undefined ? "" : role}${hides ? " key" : ""}`, (data) => {
      const shown = hides ? selectBefore(data, new Set(access.key)) : data;
      return columns === undefined ? shown : selectColumns(shown, new Set(columns));
    });
  }

  #once(key: string, cut: (data: JsonText) => JsonText): Share {
    const known = this.#cut.get(key);
    if (known !== undefined) return known;
    const share = { key, data: cut(this.#data) };
    this.#cut.set(key, share);
    return share;
  }
}

function maySee({ readers }: Sight, visible: ReadonlySet<string>, role: string, key: string): boolean {
  return readers.includes(role) || visible.has(key);
}
