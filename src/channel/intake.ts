// Intake: what listeners deliver, row changes and messages of the database. Each is taken once, in its order.
import type { Batch, BatchHeader, RowChange } from "../protocol/changes.ts";
import { broadcastBody } from "../protocol/link.ts";
import type { StoredBroadcast } from "../protocol/reports.ts";
import type { ObjectName } from "../protocol/topics.ts";
import type { Feed } from "./feed.ts";
import type { Draft, Journal } from "./journal.ts";
import { Listeners } from "./listeners.ts";
import { deliver } from "./parcel.ts";
import type { ChannelStore, Link } from "./ports.ts";
import { Turns } from "./turns.ts";

export class Intake {
  readonly #name: ObjectName;
  readonly #journal: Journal;
  readonly #feed: Feed;
  readonly #links: ReadonlyMap<string, Link>;
  readonly #listeners: Listeners;
  /** Row changes of one table are taken one batch after the other, however long it takes to judge them. */
  readonly #turns = new Turns();

  /** `links` are those that stand, by their gateways. */
  constructor(name: ObjectName, store: ChannelStore, journal: Journal, feed: Feed, links: ReadonlyMap<string, Link>) {
    this.#name = name;
    this.#journal = journal;
    this.#feed = feed;
    this.#links = links;
    this.#listeners = new Listeners(store);
  }

  /**
   * Takes a batch of row changes into this feed, in its order, all of it durable before any of it is sent. A change is
   * known by `source:id`: of a batch that was delivered before, wholly or in part, only what is missing is added. Answers
   * how many changes that were, "stale" when a listener of a newer epoch has delivered already: the lease of this one is
   * over, and nothing is taken. Rejects when nobody can say who may see it, PostgreSQL being away: it has to come again.
   */
  changes(batch: Batch): Promise<number | "stale"> {
    return this.#turns.take(batch.header.feed, () => this.#takeChanges(batch));
  }

  /**
   * Whether a batch need not come here, of which this is the header: nobody listens, and who stands before it will be told
   * that something is missing. `stale` as for `changes`.
   */
  skips(header: BatchHeader): "stale" | boolean {
    if (!this.#isUnheard) return false;
    if (this.#listeners.judge(header) === "stale") return "stale";
    this.#journal.skip();
    return true;
  }

  /** The feeds of whole schemas repeat what the feeds of tables keep: they keep nothing while nobody listens. */
  get #isUnheard(): boolean {
    return this.#links.size === 0 && this.#name.kind === "feed" && this.#name.sub.endsWith(".*");
  }

  async #takeChanges({ header, changes }: Batch): Promise<number | "stale"> {
    const skips = this.skips(header);
    if (skips !== false) return skips === true ? 0 : "stale";
    const judgement = this.#listeners.judge(header);
    if (judgement === "stale") return "stale";
    const idOf = ({ id }: RowChange): string => `${header.source}:${id}`;
    const known = this.#journal.known(judgement);
    const fresh = known === undefined ? changes : changes.filter((change) => !known.has(idOf(change)));
    const rows = fresh.filter(({ operation }) => operation !== "GAP");
    const judged = await this.#feed.judge(rows);
    const access = new Map(rows.map((row, at) => [row, judged[at]]));
    const drafts: Draft[] = [];
    for (const change of fresh) {
      const { operation, data: body, tx } = change;
      if (operation === "GAP") {
        this.#take(drafts.splice(0));
        this.#lose();
        continue;
      }
      const allowed = access.get(change) ?? { readers: [] };
      const by = { from: null, sender: null, event: operation, name: operation };
      drafts.push({ id: idOf(change), ...by, body, access: allowed, ...(tx && { tx }) });
    }
    this.#take(drafts);
    return rows.length;
  }

  /** Something that was to come here is lost: whoever stands here, or has stood here, starts anew. */
  #lose(): void {
    this.#journal.lose();
    const { position } = this.#journal;
    for (const link of this.#links.values()) link.send({ t: "welcome", position, recovered: false });
  }

  /** Takes messages that were inserted into `realtime.messages`, likewise; each is known by its own id. */
  relay(header: BatchHeader, broadcasts: readonly StoredBroadcast[]): boolean {
    const judgement = this.#listeners.judge(header);
    if (judgement === "stale") return false;
    const known = this.#journal.known(judgement);
    const drafts = broadcasts.map(({ id, event, payload }): Draft => {
      const body = broadcastBody(event, payload);
      return { id, from: null, sender: null, event: "broadcast", name: event, body, stored: true };
    });
    this.#take(known === undefined ? drafts : drafts.filter(({ id }) => !known.has(id)));
    return true;
  }

  /** All of it is durable before any of it is sent. */
  #take(drafts: readonly Draft[]): void {
    deliver(this.#journal.addAll(drafts), this.#links);
  }
}
