// A feed's side of a channel: who sees it, and what they may see of the changes that come, and of those that were.
import type { RowChange } from "../protocol/changes.ts";
import type { Access, Message, Viewer } from "../protocol/link.ts";
import type { ChannelPorts, Link } from "./ports.ts";
import { Viewers } from "./viewers.ts";
import { Visibility } from "./visibility.ts";
import { isJudged, judgeAgain } from "./visibility-again.ts";

/** How long gateways may take to tell their viewers. */
const GATHER_MS = 2_000;
/** How long what was missed is judged: a join waits for it. */
const AGAIN_MS = 5_000;

export class Feed {
  readonly viewers = new Viewers();
  readonly #ports: ChannelPorts;
  readonly #links: ReadonlyMap<string, Link>;
  readonly #visibility: Visibility;

  /** `links` are those that stand, by their gateways. */
  constructor(ports: ChannelPorts, links: ReadonlyMap<string, Link>) {
    this.#ports = ports;
    this.#links = links;
    this.#visibility = new Visibility(this.viewers, ports.policies, ports.timers);
  }

  /** Who may see each of these changes. Rejects when that cannot be said, and has to be asked again. */
  judge(changes: readonly RowChange[]): Promise<Access[]> {
    return this.#visibility.judge(changes, () => this.#gathered());
  }

  /**
   * Hands over what `read` gives, messages of the past, as these viewers may see them now; undefined when that cannot be
   * said. Where something has to be judged first, `read` is asked again in the turn in which they are handed over: what
   * has come meanwhile is among them, and was judged for these viewers as it came.
   */
  past(read: () => Message[] | undefined, viewers: readonly Viewer[], use: (messages: Message[] | undefined) => void) {
    const messages = read();
    if (!messages?.some(isJudged)) return use(messages);
    const until = this.#ports.timers.now() + AGAIN_MS;
    const isOver = (): boolean => this.#ports.timers.now() > until;
    return judgeAgain(messages, viewers, this.#ports.policies, isOver).then(
      (judged) => {
        const bySeq = new Map(judged.map((message) => [message.seq, message]));
        use(read()?.map((message) => bySeq.get(message.seq) ?? message));
      },
      () => use(undefined),
    );
  }

  /** Has the gateways that outlived the last life in memory tell their viewers. Rejects when one of them does not. */
  async #gathered(): Promise<void> {
    const missing = (): Link[] => [...this.#links.values()].filter(({ gateway }) => !this.viewers.isComplete(gateway));
    if (missing().length === 0) return;
    for (const link of missing()) link.send({ t: "viewers" });
    let cancel = (): void => {};
    let stop = (): void => {};
    await new Promise<void>((resolve, reject) => {
      cancel = this.#ports.timers.after(GATHER_MS, () => reject(new Error("a gateway does not tell its viewers")));
      stop = this.viewers.watch(() => {
        if (missing().length === 0) resolve();
      });
    }).finally(() => {
      cancel();
      stop();
    });
  }
}
