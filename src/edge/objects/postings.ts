// Postings: what is sent to a channel by somebody who has no socket in it, over HTTP, and whether they may send it.
import { judge } from "../../channel/admission.ts";
import type { Channel } from "../../channel/channel.ts";
import type { Archive } from "../../channel/ports.ts";
import { SWEEP_MS } from "../../gateway/sweep.ts";
import type { Blocks } from "../../protocol/blocks.ts";
import { isOfCode } from "../../protocol/errors.ts";
import { exceeds } from "../../protocol/json.ts";
import { type Admission, broadcastBody } from "../../protocol/link.ts";
import { allRights } from "../../protocol/rights.ts";
import type { Timers } from "../../protocol/timers.ts";
import { type Env, settingsOf } from "../env.ts";
import type { CachedAccess } from "./access.ts";
import type { Answers } from "./answers.ts";
import type { Holder } from "./holder.ts";
import type { ChannelConfig, ChannelRpc, Once, PostedMessage, Published, Sender, Unposted } from "./rpc.ts";

/** What an object has that its postings need. */
interface Parts {
  readonly env: Env;
  readonly timers: Timers;
  readonly core: Channel;
  readonly access: CachedAccess;
  readonly archive: Archive;
  readonly answers: Answers;
  /** Who is blocked everywhere, once the holder is ready. */
  readonly blocks: Blocks;
  readonly holder: Holder;
}

export class Postings implements Pick<ChannelRpc, "publish" | "post"> {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async publish(
    message: { event: string; payload: string; sender?: string },
    registered?: ChannelConfig,
    once?: Once,
  ): Promise<Published | Unposted | "key_reused"> {
    const { core, access, answers } = this.#parts;
    if (registered !== undefined) access.learn(registered);
    const { event, payload, sender = null } = message;
    const known = this.#published(once);
    if (known !== undefined) return known;
    if (sender !== null) {
      const role = "authenticated";
      const judged = await this.#judge({
        role,
        user: sender,
        principal: { claims: { sub: sender, role }, headers: {} },
      });
      if ("reason" in judged) return judged;
    }
    // While it was judged the same may have come again. From here on nothing is awaited: both are kept, or neither.
    const meanwhile = this.#published(once);
    if (meanwhile !== undefined) return meanwhile;
    const sent = core.publish({ name: event, body: broadcastBody(event, payload), sender });
    if (once !== undefined) answers.keep(once, JSON.stringify(sent));
    return sent;
  }

  /** What was published with that key. */
  #published(once: Once | undefined): Published | "key_reused" | undefined {
    const known = once && this.#parts.answers.find(once);
    return typeof known === "object" ? JSON.parse(known.answer) : known;
  }

  async post(sender: Sender, { event, payload, persist }: PostedMessage): Promise<Unposted | null> {
    const { env, core, archive } = this.#parts;
    const judged = await this.#judge(sender);
    if ("reason" in judged) return judged;
    const most = judged.limits?.payloadBytes ?? settingsOf(env).limits.payloadBytes;
    if (exceeds(payload, most)) return { reason: "payload_size_exceeded" };
    const body = broadcastBody(event, payload);
    const { id } = core.publish({ name: event, body, sender: sender.user });
    const { persistence } = (judged.rights ?? allRights).write;
    if (persist !== undefined && persistence === "granted")
      await archive.persist({ id, name: event, body }, persist.ttl);
    return null;
  }

  /** What somebody may do who has no socket here and wants to send, or why they may not send. */
  async #judge(sender: Sender): Promise<Unposted | Extract<Admission, { ok: true }>> {
    const { core, access, blocks } = this.#parts;
    const { role, user, principal } = sender;
    const admission = await judge(core.name, { session: "", ...sender }, access);
    // Only now: a block may have come while PostgreSQL was asked.
    await this.#blocksKnown();
    if (blocks.of({ role, user, all: principal.claims }, Date.now())) return { reason: "blocked" };
    if (!admission.ok) {
      const reason = isOfCode("Unauthorized", admission.reason) ? "banned" : "unavailable";
      return { reason, ...(admission.moved && { moved: admission.moved }) };
    }
    const { broadcast } = (admission.rights ?? allRights).write;
    if (broadcast === "granted") return admission;
    return { reason: broadcast === "denied" ? "unauthorized" : "rls_policy_error" };
  }

  /** Resolves once the directory tells this object of every block; it lets go of that when nobody has come for a while. */
  async #blocksKnown(): Promise<void> {
    const { timers, holder } = this.#parts;
    timers.alarm(Date.now() + SWEEP_MS);
    await holder.ready();
  }
}
