// An HTTP server in the edge's place: checks the signature of every batch and keeps what it was sent.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";

export interface RecordedTable {
  schema: string;
  table: string;
  generation: number;
  columns: { name: string; type: string }[];
  primaryKey: string[];
  rls: boolean;
  readers: string[];
}

export interface RecordedHeader {
  v: number;
  source: string;
  epoch: number;
  batch: number;
  redelivered: boolean;
  feed: string;
  tables: Record<string, RecordedTable>;
}

export interface RecordedChange {
  id: string;
  x: string;
  last?: boolean;
  r: number;
  op: string;
  at: string;
  new?: Record<string, unknown>;
  old?: Record<string, unknown>;
  errors?: string[];
}

export interface RecordedBatch {
  header: RecordedHeader;
  changes: RecordedChange[];
  /** The body as it came, for what parsing would hide. */
  body: string;
}

export class RecordingEdge {
  readonly url: string;
  /** Batches taken, in order; a batch that was refused is not among them. */
  readonly batches: RecordedBatch[] = [];
  /** Digests of policies that it was told of and took, in order. */
  readonly policies: string[] = [];
  /** Signatures that did not match. */
  forged = 0;
  /** Decides the status for a batch; 200 takes it. */
  answer: (batch: RecordedBatch) => number | Promise<number> = () => 200;
  /** What is said of messages that nobody can be sent. */
  unsent: { id: string; reason: string }[] = [];
  /** Decides the status when policies are told of. */
  answerPolicies: () => number = () => 200;
  #close: () => Promise<void>;

  private constructor(url: string, close: () => Promise<void>) {
    this.url = url;
    this.#close = close;
  }

  static async start(secret: string): Promise<RecordingEdge> {
    const server = createServer((request, response) => {
      edge.#take(request, secret).then(
        ({ status, body }) => response.writeHead(status).end(body),
        (error) => response.writeHead(500).end(String(error)),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port was given");
    const edge = new RecordingEdge(`http://127.0.0.1:${address.port}`, async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    return edge;
  }

  /** Every change taken once, in the order of arrival. */
  changes(feed?: string): RecordedChange[] {
    const seen = new Map<string, RecordedChange>();
    for (const { header, changes } of this.batches) {
      if (feed !== undefined && header.feed !== feed) continue;
      for (const change of changes) {
        const id = `${header.source}:${change.id}`;
        if (!seen.has(id)) seen.set(id, change);
      }
    }
    return [...seen.values()];
  }

  async stop(): Promise<void> {
    await this.#close();
  }

  async #take(request: IncomingMessage, secret: string): Promise<{ status: number; body: string }> {
    if (request.url === "/health") return { status: 200, body: "{}" };
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString("utf8");
    const timestamp = String(request.headers["x-nself-timestamp"]);
    const expected = createHmac("sha256", secret).update(`${timestamp}.${body}`).digest();
    const given = Buffer.from(String(request.headers["x-nself-signature"]), "hex");
    const fresh = Math.abs(Date.now() / 1000 - Number(timestamp)) < 60;
    if (!fresh || given.length !== expected.length || !timingSafeEqual(given, expected)) {
      this.forged += 1;
      return { status: 401, body: "" };
    }
    if (request.url === "/internal/policies") {
      const status = this.answerPolicies();
      if (status === 200) this.policies.push(JSON.parse(body).digest);
      return { status, body: "{}" };
    }
    const [first = "", ...lines] = body.trimEnd().split("\n");
    const batch: RecordedBatch = { header: JSON.parse(first), changes: lines.map((line) => JSON.parse(line)), body };
    const status = await this.answer(batch);
    if (status !== 200) return { status, body: "" };
    this.batches.push(batch);
    return { status, body: JSON.stringify({ ack: batch.header.batch, unsent: this.unsent }) };
  }
}
