// Configuring: what becomes of a channel, and of who is in it, when it is registered, changed or deleted.
import { isPrivateType } from "../../channel/admission.ts";
import type { Channel } from "../../channel/channel.ts";
import type { ChannelStore } from "../../channel/ports.ts";
import { type ChannelLimits, limitsOf } from "../../protocol/limits.ts";
import type { CachedAccess } from "./access.ts";
import type { ChannelConfig } from "./rpc.ts";

/** What an object was last told that its name is registered as. */
interface Told {
  readonly id: string;
  readonly type: ChannelConfig["type"];
  readonly limits: Partial<ChannelLimits>;
}

/** What an object has that this needs. */
interface Parts {
  readonly core: Channel;
  readonly access: CachedAccess;
  readonly store: ChannelStore;
}

/** Takes what the name is registered as now, null for nothing. To be told the same again changes nothing. */
export function configure({ core, access, store }: Parts, config: ChannelConfig | null): void {
  access.set(config);
  const told: Told | null = config && { id: config.id, type: config.type, limits: limitsOf(config.metadata) };
  const kept = store.get("told");
  const before: Told | null | undefined = kept === undefined ? undefined : JSON.parse(kept);
  store.set("told", JSON.stringify(told));
  if (told === null) {
    // Those of an open channel are nobody's who has deleted it.
    if (before) access.bans.clear();
    if (before !== null) core.clear("The channel was deleted", false);
  } else if (before && before.id !== told.id) core.clear("The channel was deleted and made again", true);
  else if (isPrivateType(told.type) !== (core.name.kind === "private")) {
    if (before?.type !== told.type) core.clear(`The channel is registered as ${told.type} now`, true);
  } else if (before?.type !== told.type && told.type === "presence") {
    core.putOut("The channel is registered as presence now", true);
  } else if (before?.type !== told.type || JSON.stringify(before.limits) !== JSON.stringify(told.limits)) {
    core.reauthorize();
  }
}
