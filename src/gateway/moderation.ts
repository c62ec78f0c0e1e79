// Moderation frames from clients: what members ask to be done to their channel. The channel says whether they may.
import type { ClientFrame } from "../protocol/frames.ts";
import { isObject } from "../protocol/json.ts";
import { isFeedObject } from "../protocol/topics.ts";
import type { Gateway } from "./gateway.ts";
import type { Membership } from "./membership.ts";
import { secondsLate } from "./sweep.ts";

/** Handles a `moderate` frame. It counts as a message, and is answered before anybody feels it. */
export function handleModeration(gateway: Gateway, membership: Membership, frame: ClientFrame): void {
  const { session, room, claims, rates } = membership;
  const answer = (reason: string | undefined): void => {
    if (reason === undefined) gateway.reply(session, frame, "ok", {});
    else gateway.reply(session, frame, "error", { reason });
  };
  if (isFeedObject(room.object)) return answer("A feed has no members");
  if (!isObject(frame.payload)) return answer("Moderation payload must be a map");
  const now = gateway.now();
  if (secondsLate(claims, now) >= 0) return answer("InvalidJWTToken: Token has expired");
  if (!rates.messages.take(now)) {
    return answer(
      `Too many messages: at most ${rates.messages.perMinute} a minute, go on in ${rates.messages.waitSeconds(now)} s`,
    );
  }
  const { event, payload } = frame.payload;
  const by = { role: claims.role, user: claims.user };
  room.moderate({ t: "moderate", by, act: { event, payload } }, answer);
}
