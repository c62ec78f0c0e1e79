// Readiness: tells who asked for it when what the database sends reaches the channel (protocol.md §4, replication_ready).
import type { Gateway } from "./gateway.ts";
import type { Membership } from "./membership.ts";

const ASK_EVERY_MS = 500;
const GIVE_UP_MS = 60_000;

/** Asks until the answer is yes, and tells the member; after a minute tells that it was no, and asks no more. */
export function tellWhenReady(gateway: Gateway, membership: Membership): void {
  const until = gateway.now() + GIVE_UP_MS;
  const ask = async (): Promise<void> => {
    const ready = await gateway.postgres.isReady().catch(() => false);
    if (!gateway.memberships.stands(membership)) return;
    if (ready) gateway.system(membership, "system", "ok", "Replication connection established");
    else if (gateway.now() < until) gateway.timers.after(ASK_EVERY_MS, () => void ask());
    else gateway.system(membership, "system", "error", "Replication connection was not established in time");
  };
  void ask();
}
