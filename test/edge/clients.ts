// Clients of the edge tests: sockets into the Worker under test, and what arrives on them.
import { env, exports } from "cloudflare:workers";
import { SignJWT } from "jose";
import { expect, vi } from "vitest";

export type Frame = [
  joinRef: string | null,
  ref: string | null,
  topic: string,
  event: string,
  payload: Record<string, unknown>,
];

export async function token(role: string, claims: Record<string, unknown> = {}): Promise<string> {
  return new SignJWT({ role, ...claims })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(env.REALTIME_JWT_SECRET));
}

/** Makes a name an open public channel without asking PostgreSQL, which these tests do without. */
export async function openChannel(sub: string): Promise<string> {
  const config = { id: sub, slug: sub, name: sub, type: "public" as const, metadata: {} };
  await env.CHANNEL.getByName(`public:${sub}`).configure(config);
  return `realtime:${sub}`;
}

export class Client {
  readonly frames: Frame[] = [];
  closedWith: number | undefined;
  readonly #ws: WebSocket;
  #ref = 0;

  private constructor(ws: WebSocket) {
    this.#ws = ws;
    ws.addEventListener("message", ({ data }) => {
      this.frames.push(JSON.parse(String(data)));
    });
    ws.addEventListener("close", ({ code }) => {
      this.closedWith = code;
    });
    ws.accept();
  }

  static async connect(
    path = "/realtime/v1/websocket",
    role = "anon",
    claims: Record<string, unknown> = {},
  ): Promise<Client> {
    const url = `http://edge${path}?apikey=${await token(role, claims)}&vsn=2.0.0`;
    const response = await exports.default.fetch(url, { headers: { upgrade: "websocket" } });
    if (response.webSocket === null) throw new Error(`refused: ${response.status} ${await response.text()}`);
    return new Client(response.webSocket);
  }

  send(topic: string, event: string, payload: object, joinRef: string | null = "1"): string {
    const ref = String(++this.#ref);
    this.#ws.send(JSON.stringify([joinRef, ref, topic, event, payload]));
    return ref;
  }

  sendRaw(data: string | ArrayBuffer): void {
    this.#ws.send(data);
  }

  close(): void {
    this.#ws.close(1000, "done");
  }

  /** Waits for a frame that fits. */
  async frame(fits: (frame: Frame) => boolean): Promise<Frame> {
    return vi.waitFor(
      () => {
        const found = this.frames.find(fits);
        if (found === undefined) throw new Error(`not among ${JSON.stringify(this.frames)}`);
        return found;
      },
      { timeout: 5_000, interval: 5 },
    );
  }

  /** The payload of the reply to a frame. */
  async reply(ref: string): Promise<{ status: string; response: Record<string, unknown> }> {
    const [, , , , payload] = await this.frame((frame) => frame[3] === "phx_reply" && frame[1] === ref);
    return payload as { status: string; response: Record<string, unknown> };
  }

  async join(topic: string, config: object = {}): Promise<Record<string, unknown>> {
    const { status, response } = await this.reply(this.send(topic, "phx_join", { config }));
    expect(status, JSON.stringify(response)).toBe("ok");
    return response;
  }

  broadcast(topic: string, event: string, payload: object): string {
    return this.send(topic, "broadcast", { type: "broadcast", event, payload });
  }

  /** Numbers of the broadcasts `n` that have arrived, in order. */
  numbers(): number[] {
    return this.frames
      .filter(([, , , event]) => event === "broadcast")
      .map(([, , , , payload]) => (payload.payload as { n: number }).n);
  }

  async expectNumbers(numbers: number[]): Promise<void> {
    await vi.waitFor(() => expect(this.numbers()).toEqual(numbers), { timeout: 8_000, interval: 10 });
  }
}

/** The gateways that hold sockets now. */
export async function gateways(): Promise<string[]> {
  return (await env.DIRECTORY.getByName("directory").holders()).gateways;
}

/** Two clients on different gateways. */
export async function twoGateways(): Promise<{ ann: Client; bob: Client }> {
  const gatewayOf = async (): Promise<Map<string, string>> => {
    const lists = await Promise.all((await gateways()).map((name) => env.GATEWAY.getByName(name).connections()));
    return new Map(lists.flat().map(({ id, gateway }) => [id, gateway]));
  };
  const before = await gatewayOf();
  const clients: { client: Client; gateway: string }[] = [];
  const known = new Set(before.keys());
  for (let tries = 0; tries < 40; tries++) {
    const client = await Client.connect();
    const now = await vi.waitFor(async () => {
      const added = [...(await gatewayOf())].find(([id]) => !known.has(id));
      if (added === undefined) throw new Error("not there yet");
      return added;
    });
    known.add(now[0]);
    clients.push({ client, gateway: now[1] });
    const [first] = clients;
    if (first !== undefined && first.gateway !== now[1]) return { ann: first.client, bob: client };
  }
  throw new Error("40 clients came to one gateway");
}
