// Presence frames from clients: track and untrack (protocol.md §7.1).
import { reasonOf } from "../protocol/errors.ts";
import type { ClientFrame } from "../protocol/frames.ts";
import { exceeds, isObject } from "../protocol/json.ts";
import type { Gateway } from "./gateway.ts";
import type { Membership } from "./membership.ts";

/** Handles a `presence` frame. The reply comes after the diff that it caused. */
export function handlePresence(gateway: Gateway, membership: Membership, frame: ClientFrame): void {
  const { session, room } = membership;
  const answer = (error: string | undefined): void => {
    if (error === undefined) gateway.reply(session, frame, "ok", {});
    else gateway.reply(session, frame, "error", { reason: error });
  };
  if (room.object.startsWith("feed:")) return answer("A feed has no presence");
  if (!isObject(frame.payload)) return answer("Presence payload must be a map");
  const { event, payload: meta = {} } = frame.payload;
  if (event === undefined) return answer(undefined);
  const now = gateway.now();
  const rate = membership.rates.presence;
  if (!rate.take(now)) {
    const own = membership.limits.presencePerMinute;
    const setting = own === undefined ? "REALTIME_PRESENCE_PER_MINUTE" : "the channel's own limit";
    const limit = `${rate.perMinute} calls a minute (${setting})`;
    return answer(`Client presence rate limit exceeded: at most ${limit}, go on in ${rate.waitSeconds(now)} s`);
  }
  switch (typeof event === "string" ? event.toLowerCase() : "") {
    case "track":
      if (!isObject(meta)) return answer("Presence track payload must be a map");
      if (membership.rights.write.presence !== "granted") {
        return answer(reasonOf("Unauthorized", "You do not have permissions to track presence in this Channel"));
      }
      if (exceeds(JSON.stringify(meta), membership.limits.presenceBytes ?? gateway.limits.presenceBytes))
        return answer("Track message size exceeded");
      membership.presenceEnabled = true;
      membership.tracked = meta;
      gateway.memberships.keep(membership);
      return room.presence(
        { t: "track", session: session.id, user: membership.claims.user, key: membership.presenceKey, meta },
        answer,
      );
    case "untrack":
      membership.tracked = null;
      gateway.memberships.keep(membership);
      return room.presence({ t: "untrack", session: session.id }, answer);
    default:
      return gateway.reply(session, frame, "error", {});
  }
}
