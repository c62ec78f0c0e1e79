// Starts that cannot succeed: each says what is wrong and how to put it right, and leaves nothing running.

import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { SignJWT } from "jose";
import { afterEach, beforeEach, expect, test } from "vitest";
import { processesWith } from "../support/processes.ts";
import { freePorts, newHome, spawnStack } from "../support/stack.ts";

const SECRET = "the secret of this test alone, long enough";

let home: string;
beforeEach(async () => {
  home = await newHome();
});
afterEach(async () => {
  expect(processesWith(home)).toEqual([]);
  await rm(home, { recursive: true });
});

test.each([
  [0, "REALTIME_PORT"],
  [1, "REALTIME_LISTENER_PORT"],
  [2, "REALTIME_POSTGRES_PORT"],
])("a taken port (number %i of three): names the port and %s", async (offset, setting) => {
  const first = await freePorts();
  const occupant = createServer().listen(first + offset, "127.0.0.1");
  await once(occupant, "listening");
  const { code, logs } = await startAndFail({ REALTIME_PORT: String(first) });
  occupant.close();
  expect(code).toBe(1);
  expect(logs).toContain(`Port ${first + offset} on 127.0.0.1 is taken by another program. Set ${setting} to another`);
});

test.each([
  [{ REALTIME_PORT: "http" }, "REALTIME_PORT must be a port number"],
  [{ REALTIME_PORT: "70000" }, "REALTIME_PORT must be a port number from 1 to 65535"],
  [{ REALTIME_PORT: "65535" }, "REALTIME_LISTENER_PORT would be 65536"],
  [
    { REALTIME_PORT: "24000", REALTIME_LISTENER_PORT: "24000" },
    "REALTIME_LISTENER_PORT and REALTIME_PORT are both 24000",
  ],
  [{ REALTIME_HOST: "not a host" }, "REALTIME_HOST must be an IP address or localhost"],
  [{ REALTIME_JWT_SECRET: "tiny" }, "REALTIME_JWT_SECRET must be at least 32 characters long"],
  [
    { REALTIME_GATEWAYS: "x", REALTIME_PRESENCE_TIMEOUT: "-4" },
    "REALTIME_GATEWAYS must be a whole number from 1 to 1000\nREALTIME_PRESENCE_TIMEOUT must be",
  ],
  [{ REALTIME_GATEWAY_SOCKETS: "99999" }, "REALTIME_GATEWAY_SOCKETS must be a whole number from 1 to 32000"],
  [{ REALTIME_JWKS: '{"keys":{"k":"tiny"}}' }, "REALTIME_JWKS must be a key set as JSON"],
  [{ REALTIME_JWKS_URL: "http://keys.example.com/jwks" }, "REALTIME_JWKS_URL must be an https URL"],
  [{ REALTIME_JWKS_URL: "https://root:hunter2@keys.example.com" }, "REALTIME_JWKS_URL must be an https URL"],
  [{ REALTIME_JWT_CLAIMS: '{"aud":["a"]}' }, "REALTIME_JWT_CLAIMS must be a JSON object of text, numbers and booleans"],
  [{ REALTIME_JWT_CLAIMS: "iss" }, "REALTIME_JWT_CLAIMS must be a JSON object"],
  [{ REALTIME_CONNECTIONS_PER_MINUTE: "-1" }, "REALTIME_CONNECTIONS_PER_MINUTE must be a whole number from 0 to"],
  [{ REALTIME_MESSAGES_PER_MINUTE: "many" }, "REALTIME_MESSAGES_PER_MINUTE must be a whole number from 0 to"],
  [{ REALTIME_IP_HEADER: "x real ip" }, "REALTIME_IP_HEADER must be the name of a header"],
  [{ REALTIME_ENABLED: "yes" }, "REALTIME_ENABLED must be true or false"],
  [{ REALTIME_MAX_CONNECTIONS: "0" }, "REALTIME_MAX_CONNECTIONS must be a whole number from 1 to"],
  [{ REALTIME_MESSAGE_TTL: "1d" }, "REALTIME_MESSAGE_TTL must be a whole number from 1 to"],
  [{ REALTIME_HEARTBEAT_INTERVAL: "0" }, "REALTIME_HEARTBEAT_INTERVAL must be a whole number from 1 to"],
  [{ REALTIME_RECONNECT_DELAY: "5s" }, "REALTIME_RECONNECT_DELAY must be a whole number from 10 to"],
  [{ REALTIME_HEARTBEAT_INTERVAL: "40", REALTIME_IDLE_TIMEOUT: "30" }, "REALTIME_IDLE_TIMEOUT must be longer than"],
  [{ REALTIME_OUTBOX_LIMIT: "1000" }, "REALTIME_OUTBOX_LIMIT must be a whole number from 1000000 to"],
  [{ REALTIME_NOTIFY: "maybe" }, "REALTIME_NOTIFY must be on or off"],
  [{ REALTIME_LOG_LEVEL: "loud" }, "REALTIME_LOG_LEVEL must be one of error, warn, info, debug"],
  [{ REALTIME_PORT: "1000" }, "REALTIME_POSTGRES_PORT would be 1002; PostgreSQL never runs as root"],
  [{ DATABASE_URL: "mysql://root:hunter2@127.0.0.1/x" }, "DATABASE_URL must be a URL such as postgresql://"],
])("AC-183: %o is refused by name", async (env, message) => {
  const { code, logs } = await startAndFail(env);
  expect(code).toBe(1);
  expect(logs).toContain(message);
  expect(logs).not.toMatch(/hunter2|tiny/);
});

test("an address that this machine does not have is REALTIME_HOST's fault, not the port's", async () => {
  const { code, logs } = await startAndFail({ REALTIME_PORT: String(await freePorts()), REALTIME_HOST: "192.0.2.1" });
  expect(code).toBe(1);
  expect(logs).toContain("REALTIME_HOST: this machine has no address 192.0.2.1");
});

test.each([
  ["REALTIME_ANON_KEY", "anon", "service_role", SECRET, 'a token of role "service_role", not "anon"'],
  ["REALTIME_SERVICE_KEY", "service_role", "service_role", "another".repeat(8), "Failed to validate JWT signature"],
  ["REALTIME_SERVICE_KEY", "service_role", "anon", SECRET, 'a token of role "anon", not "service_role"'],
])("%s must be a token for %s: one for %s, signed with %s, is refused", async (name, _role, given, secret, reason) => {
  const { code, logs } = await startAndFail({
    REALTIME_PORT: String(await freePorts()),
    REALTIME_JWT_SECRET: SECRET,
    [name]: await token(given, secret),
  });
  expect(code).toBe(1);
  expect(logs).toContain(name);
  expect(logs).toContain(reason);
});

test("one key for both roles would make every client the service", async () => {
  const keys = { REALTIME_ANON_KEY: "opaque", REALTIME_SERVICE_KEY: "opaque" };
  const { code, logs } = await startAndFail({ REALTIME_PORT: String(await freePorts()), ...keys });
  expect(code).toBe(1);
  expect(logs).toContain("REALTIME_ANON_KEY and REALTIME_SERVICE_KEY are the same");
});

test("a name that is no setting is told, whatever comes after", async () => {
  const { logs } = await startAndFail({
    REALTIME_PORT: String(await freePorts()),
    REALTIME_GATEWAY: "3",
    REALTIME_HOST: "192.0.2.1",
  });
  expect(logs).toContain("REALTIME_GATEWAY is no setting and is ignored. Did you mean REALTIME_GATEWAYS?");
});

test.runIf(existsSync("/proc/self"))(
  "a home that cannot be made is refused at once, below and in what is there",
  async () => {
    for (const [place, what] of [
      ["/proc/nope", "create /proc/nope"],
      ["/proc", "write in /proc"],
      [join(home, "file", "below"), `create ${join(home, "file", "below")}`],
    ] as const) {
      await writeFile(join(home, "file"), "");
      const stack = spawnStack({ home: place, env: { REALTIME_PORT: String(await freePorts()) } });
      expect(await stack.exited).toBe(1);
      expect(stack.logs()).toContain(`NSELF_HOME: cannot ${what} (`);
    }
  },
);

test("an unknown flag is refused with the usage, --help prints the usage alone", async () => {
  const unknown = await startAndFail({}, ["--prot", "4000"]);
  expect(unknown.code).toBe(1);
  expect(unknown.logs).toContain("--prot");
  expect(unknown.logs).toContain("usage: npm start");
  const help = await startAndFail({}, ["--help"]);
  expect(help.code).toBe(0);
  expect(help.logs).toMatch(/^Starts everything/);
});

test("--port wins over REALTIME_PORT, and is named when it is wrong", async () => {
  const { logs } = await startAndFail({ REALTIME_PORT: "24000" }, ["--port", "nonsense"]);
  expect(logs).toContain("✗ --port must be a port number");
});

test("a database that cannot be reached: says so without its password", async () => {
  const [port, database] = [await freePorts(), await freePorts()];
  const { code, logs } = await startAndFail({
    REALTIME_PORT: String(port),
    DATABASE_URL: `postgresql://someone:hunter2@127.0.0.1:${database}/x`,
  });
  expect(code).toBe(1);
  expect(logs).toContain("The database of DATABASE_URL cannot be used");
  expect(logs).not.toContain("hunter2");
});

test("a damaged secrets file is named, not overwritten and not quoted", async () => {
  await writeFile(join(home, "secrets.json"), '{"jwtSecret": "half a sec');
  const { code, logs } = await startAndFail({ REALTIME_PORT: String(await freePorts()) });
  expect(code).toBe(1);
  expect(logs).toContain(join(home, "secrets.json"));
  expect(logs).not.toContain("half a sec");
});

test("a secrets file that is gone is named at once, where the database that it opens is still there", async () => {
  await mkdir(join(home, "postgres"));
  const { code, logs } = await startAndFail({ REALTIME_PORT: String(await freePorts()) });
  expect(code).toBe(1);
  expect(logs).toContain(`${join(home, "secrets.json")} is missing, and ${join(home, "postgres")} is there`);
  expect(existsSync(join(home, "secrets.json"))).toBe(false);
});

function token(role: string, secret: string): Promise<string> {
  return new SignJWT({ role })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(secret));
}

async function startAndFail(
  env: Record<string, string>,
  args: string[] = [],
): Promise<{ code: number | string; logs: string }> {
  const stack = spawnStack({ home, env }, args);
  return { code: await stack.exited, logs: stack.logs() };
}
