// The table of settings in docs/configuration.md says what the code does: each name, its default, its meaning.
import { globSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { documented } from "../../src/settings/documented.ts";
import { deployment, limitsFrom, tuning } from "../../src/settings/edge.ts";
import { listenerAlone, listenerTuning } from "../../src/settings/listener.ts";
import { stackSettings } from "../../src/settings/stack.ts";

const document = readFileSync("docs/configuration.md", "utf8");
const settings = [stackSettings, tuning, listenerTuning, deployment, listenerAlone].flatMap(({ shape }) =>
  documented(shape),
);
/** Of the stack's own, in .env and elsewhere. */
const NAME = /\b(?:REALTIME|NSELF)_[A-Z_]+\b|\b(?:SUPABASE_DB|DATABASE)_URL\b/g;

test("each setting is in the table, with its default and what it does, and nothing else is", () => {
  const rows = [...document.matchAll(/^\| `(\w+)` +\| (.*?) +\| (.*?) +\|$/gm)].map(([, name, otherwise, says]) => ({
    name,
    otherwise,
    says,
  }));
  expect(rows).toEqual(settings);
  expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length);
});

test("each variable that the code names is documented, and each that is documented is named by the code", () => {
  const code = globSync("src/**/*.{ts,tsx}").map((path) => readFileSync(path, "utf8"));
  const named = new Set(code.flatMap((text) => text.match(NAME) ?? []));
  expect([...new Set(document.match(NAME) ?? [])].sort()).toEqual([...named].sort());
});

test("the seven that were promised have the defaults that were promised", () => {
  const defaults = Object.fromEntries(settings.map(({ name, otherwise }) => [name, otherwise]));
  expect(defaults).toMatchObject({
    REALTIME_ENABLED: "true",
    REALTIME_PORT: expect.stringMatching(/^4000\b/),
    REALTIME_MAX_CONNECTIONS: expect.stringMatching(/^10000\b/),
    REALTIME_MESSAGE_TTL: "86400",
    REALTIME_PRESENCE_TIMEOUT: "300",
    REALTIME_HEARTBEAT_INTERVAL: "30",
    REALTIME_RECONNECT_DELAY: "5000",
  });
});

test("who beats in time is not idle: the bound of silence is twice the interval, unless 60 s are longer", () => {
  const idleMs = (interval?: string) => limitsFrom(tuning.parse({ REALTIME_HEARTBEAT_INTERVAL: interval })).idleMs;
  expect([idleMs(), idleMs("5"), idleMs("45")]).toEqual([60_000, 60_000, 90_000]);
});
