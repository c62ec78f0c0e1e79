// The outbox of the client: whose message is whose, whatever peers claim.
import { expect, test } from "vitest";
import { type Draft, Outbox } from "../../src/client/outbox.ts";

const message = { type: "broadcast", event: "n" } as const;

/** An outbox, open or not, and what it handed to the socket. */
function outbox(isOpen: boolean) {
  const sent: Draft[] = [];
  const made = new Outbox(10, (draft) => sent.push(draft) > 0);
  if (isOpen) made.open();
  return { made, sent };
}

test("a peer that has heard one nonce knows no other one", () => {
  const { made, sent } = outbox(true);
  for (let n = 0; n < 3; n++) void made.send(message);
  const [first = "", second = "", third = ""] = sent.map(({ nonce }) => nonce);
  for (const nonce of [first, second]) expect(nonce).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(second.slice(0, 8)).not.toBe(first.slice(0, 8));
  expect(made.heard(third)).toBe(true);
  for (const forged of [`${first}:4`, first.slice(0, 8), "", 4, undefined]) expect(made.heard(forged)).toBe(false);
});

test("what was under way when the socket broke is settled by hearing it, and not sent again", async () => {
  const { made, sent } = outbox(true);
  const underWay = made.send(message);
  made.lost();
  const waiting = made.send(message);
  expect(made.heard(sent[0]?.nonce)).toBe(true);
  await underWay;
  expect(sent).toHaveLength(1);
  made.open();
  expect(sent).toHaveLength(2);
  expect(made.heard(sent[1]?.nonce)).toBe(true);
  await waiting;
});

test("nonces are remembered as long as a resume may bring their messages, and no longer", () => {
  const { made, sent } = outbox(true);
  for (let n = 0; n < 10_001; n++) made.send(message).catch(() => {});
  expect(made.heard(sent[0]?.nonce)).toBe(false);
  expect(made.heard(sent[1]?.nonce)).toBe(true);
  expect(made.heard(sent[10_000]?.nonce)).toBe(true);
});
