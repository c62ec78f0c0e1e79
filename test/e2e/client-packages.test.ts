// The packages as they are published: built, packed, unpacked in a project elsewhere, type-checked there and run.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { realtime } from "../cli/nself.ts";
import { eventually, uniqueName } from "../support/clients.ts";
import { freePorts, startStack, type TestStack } from "../support/stack.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const bin = (name: string): string => join(project, "node_modules", ".bin", name);
const CHROMIUM = "/usr/bin/chromium";
const workerd: string = createRequire(import.meta.url)("workerd").default;

let stack: TestStack;
let packages: string;
const projects: string[] = [];
let running: (() => void)[] = [];

beforeAll(async () => {
  stack = await startStack();
  packages = mkdtempSync(join(tmpdir(), "packages-"));
  const workspaces = ["@nself/client", "@nself/react"].flatMap((name) => ["--workspace", name]);
  execFileSync("npm", ["pack", ...workspaces, "--pack-destination", packages], { cwd: project, stdio: "pipe" });
});

afterEach(() => {
  for (const stop of running) stop();
  running = [];
});

afterAll(async () => {
  for (const directory of [packages, ...projects]) rmSync(directory, { recursive: true, force: true });
  await stack?.stop();
});

/** A project that has installed the packages, and the React that lies under `reactFrom`. */
function newProject(reactFrom = project): string {
  const directory = mkdtempSync(join(tmpdir(), "elsewhere-"));
  projects.push(directory);
  const modules = join(directory, "node_modules");
  for (const name of ["client", "react"]) {
    const target = join(modules, "@nself", name);
    mkdirSync(target, { recursive: true });
    execFileSync("tar", ["-xzf", join(packages, `nself-${name}-0.1.0.tgz`), "--strip-components=1", "-C", target]);
  }
  mkdirSync(join(modules, "@types"));
  const link = (from: string, name: string): void => symlinkSync(join(from, "node_modules", name), join(modules, name));
  for (const name of ["react", "react-dom"]) link(reactFrom, name);
  for (const name of ["happy-dom", "@types/react", "@types/react-dom", "@types/node", "csstype"]) link(project, name);
  writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module" }));
  return directory;
}

/** Runs a program until the test ends. @returns what it has written so far */
function run(command: string, args: string[], cwd: string): () => string {
  const child = spawn(command, args, { cwd, env: { PATH: process.env.PATH, NO_COLOR: "1" } });
  running.push(() => child.kill("SIGKILL"));
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  return () => output;
}

/** The example for TypeScript as the features page prints it, but for the address and the key. */
const printed = (url: string, key: string): string => `
import { RealtimeClient } from '@nself/client';

const client = new RealtimeClient({
  url: '${url}',
  apiKey: '${key}'
});

// Subscribe to table changes
const subscription = client
  .channel('realtime:table:public.users')
  .on('INSERT', (payload) => {
    console.log('New user:', payload.new);
  })
  .on('UPDATE', (payload) => {
    console.log('Updated user:', payload.new);
  })
  .on('DELETE', (payload) => {
    console.log('Deleted user:', payload.old);
  })
  .subscribe();

// Broadcast message
const channel = client.channel('general');
channel.send({
  type: 'broadcast',
  event: 'message',
  payload: { text: 'Hello World!' }
});

// Track presence
const presence = client.channel('lobby');
presence.track({ user_id: 'user-123', status: 'online' });
presence.on('presence', { event: 'join' }, ({ key, currentPresence }) => {
  console.log('User joined:', key, currentPresence);
});
`;

/** The hook's example, likewise, and what a page around it needs. */
const chatRoom = `
import { useChannel } from '@nself/react';

declare const currentUser: { id: string };

export function ChatRoom({ roomId }) {
  const { messages, send, online } = useChannel(roomId, {
    events: ['message.sent', 'user.joined', 'user.left'],
    presence: true
  });

  const sendMessage = (text: string) => {
    send('message.sent', { text, user_id: currentUser.id });
  };

  return (
    <div onClick={() => sendMessage('Hello')}>
      <div>Online: {online.length}</div>
      {messages.map(msg => (
        <div key={msg.id}>{msg.payload.text}</div>
      ))}
    </div>
  );
}
`;

const page = (url: string, key: string, room: string): string => `
import { RealtimeClient } from '@nself/client';
import { RealtimeProvider } from '@nself/react';
import { Window } from 'happy-dom';
import { version } from 'react';
import { createRoot } from 'react-dom/client';
import { ChatRoom } from './chat-room.tsx';

const window = new Window();
Object.assign(globalThis, { window, document: window.document, currentUser: { id: 'ann' } });
const client = new RealtimeClient({ url: '${url}', apiKey: '${key}' });
const element = document.createElement('main');
document.body.append(element);
createRoot(element).render(<RealtimeProvider client={client}><ChatRoom roomId="${room}" /></RealtimeProvider>);
setInterval(() => {
  console.log(version, element.textContent);
  if (element.textContent === 'Online: 1') element.querySelector<HTMLElement>('div')?.click();
}, 100);
`;

/** @returns what the compiler says */
function typeCheck(directory: string, module: string, moduleResolution: string): string {
  const compilerOptions = {
    ...{ module, moduleResolution, target: "es2022", lib: ["es2022", "dom"], jsx: "react-jsx", noEmit: true },
    // As printed, a component need not say what its properties are.
    ...{ strict: true, noImplicitAny: false, exactOptionalPropertyTypes: true, types: [] },
  };
  writeFileSync(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts", "*.tsx"] }));
  return spawnSync(bin("tsc"), ["--pretty", "false"], { cwd: directory, encoding: "utf8" }).stdout;
}

describe("the built packages", () => {
  test.each([
    ["esnext", "bundler"],
    ["nodenext", "nodenext"],
  ])("AC-203: resolve with types in a project with module %s", (module, resolution) => {
    const directory = newProject();
    writeFileSync(join(directory, "printed.ts"), printed(stack.url, stack.anonKey));
    writeFileSync(join(directory, "chat-room.tsx"), chatRoom);
    writeFileSync(join(directory, "wrong.ts"), `${printed("", "")}\npresence.lost();\nchannel.send({ event: 1 });`);
    const faults = typeCheck(directory, module, resolution).matchAll(/^(\S+)\(.*error (TS\d+)/gm);
    // What is not public is not there, what is has its types; everything else is right.
    expect([...faults].map(([, file, code]) => `${file} ${code}`)).toEqual(["wrong.ts TS2339", "wrong.ts TS2322"]);
  });

  test("AC-203: the printed example for TypeScript runs as it is printed", async () => {
    for (const [name, type] of [
      ["general", "public"],
      ["lobby", "presence"],
    ] as const) {
      expect((await realtime(stack, ["channel", "create", name, type])).code).toBe(0);
    }
    const db = new pg.Client({ connectionString: stack.databaseUrl });
    await db.connect();
    try {
      await db.query("create table public.users (id int primary key, email text)");
      expect((await realtime(stack, ["subscribe", "public.users"])).code).toBe(0);
      const directory = newProject();
      writeFileSync(join(directory, "printed.ts"), printed(stack.url.replace("http", "ws"), stack.anonKey));
      const output = run(process.execPath, ["printed.ts"], directory);
      await eventually(() =>
        expect(output()).toMatch(/User joined: user-123 \{\s+user_id: 'user-123',\s+status: 'online'/),
      );
      await eventually(async () => {
        await db.query("delete from users");
        await db.query("insert into users values (1, 'new@example.com')");
        await db.query("update users set email = 'other@example.com'");
        expect(output()).toMatch(/New user: \{ id: 1, email: 'new@example.com' \}/);
        expect(output()).toMatch(/Updated user: \{ id: 1, email: 'other@example.com' \}/);
        expect(output()).toMatch(/Deleted user: \{ id: 1, email: 'other@example.com' \}/);
      });
      const { stdout } = await realtime(stack, ["messages", "general", "--json"]);
      expect(JSON.parse(stdout)).toMatchObject([{ event_type: "message", payload: { text: "Hello World!" } }]);
    } finally {
      await db.end();
    }
  });

  test.each([
    ["19", project],
    ["18", join(project, "test", "react-18")],
  ])("AC-203: the printed hook runs as it is printed, in React %s", async (version, from) => {
    const directory = newProject(from);
    writeFileSync(join(directory, "chat-room.tsx"), chatRoom);
    writeFileSync(join(directory, "page.tsx"), page(stack.url, stack.anonKey, uniqueName("printed")));
    await build({
      ...{ entryPoints: [join(directory, "page.tsx")], outfile: join(directory, "page.js"), logLevel: "silent" },
      ...{ bundle: true, packages: "external", format: "esm", jsx: "automatic" },
    });
    const output = run(process.execPath, ["page.js"], directory);
    await eventually(() => expect(output()).toMatch(new RegExp(`^${version}\\.\\S+ Online: 1Hello`, "m")));
  });

  test.skipIf(!existsSync(CHROMIUM))("the client and the printed hook run in a browser", async () => {
    const directory = newProject();
    const room = uniqueName("browser");
    writeFileSync(join(directory, "chat-room.tsx"), chatRoom);
    writeFileSync(
      join(directory, "page.tsx"),
      `
      import { RealtimeClient } from '@nself/client';
      import { RealtimeProvider } from '@nself/react';
      import { createRoot } from 'react-dom/client';
      import { ChatRoom } from './chat-room.tsx';
      globalThis.currentUser = { id: 'ann' };
      const client = new RealtimeClient({ url: '${stack.url}', apiKey: '${stack.anonKey}' });
      const main = document.querySelector('main')!;
      createRoot(main).render(<RealtimeProvider client={client}><ChatRoom roomId="${room}" /></RealtimeProvider>);
      setInterval(() => {
        const shown = main.textContent;
        if (shown === 'Online: 1') document.querySelector<HTMLElement>('div')?.click();
        fetch('/shown', { method: 'POST', body: shown });
      }, 100);`,
    );
    const bundled = await build({
      ...{ entryPoints: [join(directory, "page.tsx")], write: false, logLevel: "silent", bundle: true },
      ...{ format: "iife", jsx: "automatic", define: { "process.env.NODE_ENV": '"production"' } },
    });
    const files: Record<string, [type: string, text: string | undefined]> = {
      "/": ["text/html", '<!doctype html><main></main><script src="/page.js"></script>'],
      "/page.js": ["text/javascript", bundled.outputFiles[0]?.text],
    };
    const shown: string[] = [];
    const server = createServer(async (request, response) => {
      if (request.method === "POST") shown.push(await text(request));
      const [type, content] = files[request.url ?? ""] ?? ["text/plain", ""];
      response.setHeader("content-type", type).end(content);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const address = server.address();
      const port = typeof address === "object" ? address?.port : undefined;
      const flags = ["--headless", "--no-sandbox", "--disable-gpu", `--user-data-dir=${join(directory, "profile")}`];
      const output = run(CHROMIUM, [...flags, `http://127.0.0.1:${port}/`], directory);
      await eventually(() => expect(shown.at(-1), output()).toMatch(/^Online: 1Hello/), 20_000);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });

  test("the client runs in workerd", async () => {
    const directory = newProject();
    const worker = `
      import { RealtimeClient } from "@nself/client";
      export default {
        async fetch() {
          const client = new RealtimeClient({ url: "${stack.url}", apiKey: "${stack.anonKey}" });
          const channel = client.channel("workers", { config: { broadcast: { self: true } } });
          const heard = new Promise((resolve) => channel.on("broadcast", { event: "*" }, resolve));
          await channel.send({ type: "broadcast", event: "from", payload: { runtime: navigator.userAgent } });
          const { payload } = await heard;
          client.disconnect();
          return Response.json({ payload, status: client.status });
        },
      };`;
    writeFileSync(join(directory, "worker.js"), worker);
    await build({
      ...{ entryPoints: [join(directory, "worker.js")], outfile: join(directory, "bundle.js"), logLevel: "silent" },
      ...{ bundle: true, format: "esm", conditions: ["workerd"] },
    });
    const port = await freePorts(1);
    writeFileSync(
      join(directory, "config.capnp"),
      `using Workerd = import "/workerd/workerd.capnp";
      const config :Workerd.Config = (
        services = [
          (name = "main", worker = (modules = [(name = "bundle.js", esModule = embed "bundle.js")], compatibilityDate = "2026-10-01")),
          (name = "internet", network = (allow = ["public", "private"])),
        ],
        sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
      );`,
    );
    const output = run(workerd, ["serve", "config.capnp"], directory);
    await eventually(async () => {
      const response = await fetch(`http://127.0.0.1:${port}`).catch((error: unknown) => {
        throw new Error(`${error}: ${output()}`);
      });
      const answer = { payload: { runtime: "Cloudflare-Workers" }, status: "disconnected" };
      expect(await response.json()).toEqual(answer);
    });
  });
});
