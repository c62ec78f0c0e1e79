// The reference of the admin API: its OpenAPI document, and a page to read it in. What they say is the same for every
// server, and stands in the source; nothing of this one's settings, keys or data is in them.
import { Hono } from "hono";
import { etag } from "hono/etag";
import { html, raw } from "hono/html";
import type { RouterRoute } from "hono/types";
import { problems } from "../../protocol/errors.ts";
import { type Document, type OperationObject, openApi, type Parameter } from "./openapi.ts";
import { script, style } from "./reference-look.ts";
import { outline, remarkOf } from "./reference-schema.ts";

const URL_PATH = "/admin/v1";

type Html = ReturnType<typeof html>;

interface Call extends OperationObject {
  readonly method: string;
  readonly path: string;
}

/** Serves `/openapi.json` and `/reference`. The routes are asked for when they are all there. */
export function reference(routes: () => readonly RouterRoute[]) {
  let written: Promise<{ document: Document; page: string; policy: string }> | undefined;
  const write = async () => {
    const document = openApi(routes(), URL_PATH);
    return { document, page: String(await pageOf(document)), policy: await contentPolicy() };
  };
  return new Hono()
    .use("/openapi.json", etag())
    .use("/reference", etag())
    .get("/openapi.json", async (c) => {
      written ??= write();
      return c.json((await written).document);
    })
    .get("/reference", async (c) => {
      written ??= write();
      const { page, policy } = await written;
      c.header("content-security-policy", policy);
      c.header("referrer-policy", "no-referrer");
      c.header("x-content-type-options", "nosniff");
      return c.html(page);
    });
}

/** Nothing is loaded, sent or framed; of scripts and styles only the page's own are taken. */
async function contentPolicy(): Promise<string> {
  const [styles, scripts] = await Promise.all([style, script].map(hash));
  return [
    "default-src 'none'",
    `style-src '${styles}'`,
    `script-src '${scripts}'`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

async function hash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}`;
}

function pageOf(document: Document): Html {
  const calls = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): Call => ({ ...operation, method, path })),
  );
  const groups = document.tags.map((tag) => ({ ...tag, calls: calls.filter(({ tags }) => tags.includes(tag.name)) }));
  const { title, version, description } = document.info;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${raw(style)}</style>
</head>
<body>
<nav aria-label="Operations">
<h1><a href="#top">${title}</a></h1>
<input type="search" placeholder="Find ( / )" aria-label="Find an operation">
${groups.map(
  (group) =>
    html`<div data-group><h2>${group.name}</h2><ul>${group.calls.map(
      (call) =>
        html`<li data-words="${wordsOf(call)}"><a href="#${call.operationId}">${method(call)}<span>${call.summary}</span></a></li>`,
    )}</ul></div>`,
)}
<h2>Errors</h2><ul><li><a href="#problems">Problems by code</a></li></ul>
</nav>
<main>
<h1 id="top">${title}, version ${version}</h1>
${paragraphs(description)}
<p>For programs, the same as <a href="openapi.json">OpenAPI ${document.openapi}</a>.</p>
${groups.map(
  (group) => html`<section data-group><h2>${group.name}</h2>${paragraphs(group.description)}
${group.calls.map((call) => article(call, document))}</section>`,
)}
<section><h2 id="problems">Problems by code</h2>
<table>${Object.entries(problems).map(
    ([code, { status, title, remedy }]) =>
      html`<tr><td><code>${code}</code></td><td>${status}</td><td>${title}</td><td>${words(remedy)}</td></tr>`,
  )}</table></section>
</main>
<script>${raw(script)}</script>
</body>
</html>`;
}

function article(call: Call, document: Document): Html {
  const { schemas } = document.components;
  const body = call.requestBody?.content["application/json"]?.schema;
  const answers = Object.entries(call.responses);
  return html`<article id="${call.operationId}" data-words="${wordsOf(call)}">
<h3><a href="#${call.operationId}">${call.summary}</a></h3>
<p class="call">${method(call)}<code>${URL_PATH}${call.path}</code><span class="soft">${call["x-nself-commands"].map(
    (command) => html`<code>nself realtime ${command}</code> `,
  )}</span></p>
${call.description === undefined ? "" : paragraphs(call.description)}
${call.parameters.length === 0 ? "" : html`<h4>Parameters</h4><table>${call.parameters.map((one) => row(one, document))}</table>`}
${body === undefined ? "" : html`<h4>Body</h4><pre><code>${outline(body, schemas)}</code></pre>`}
${answers
  .filter(([status]) => status.startsWith("2"))
  .map(([status, { content, headers = {} }]) => {
    const schema = content["application/json"]?.schema ?? {};
    return html`<h4>Answer ${status}</h4><pre><code>${outline(schema, schemas)}</code></pre>${Object.entries(
      headers,
    ).map(([name, { description }]) => html`<p><code>${name}</code> ${words(description)}</p>`)}`;
  })}
<details><summary class="soft">Example and problems</summary>
<div class="example"><button type="button" hidden>Copy</button><pre><code>${curl(call)}</code></pre></div>
<table>${answers
    .filter(([status]) => !status.startsWith("2"))
    .map(([status, { description }]) => html`<tr><td>${status}</td><td>${words(description)}</td></tr>`)}</table>
</details>
</article>`;
}

function row(parameter: Parameter, { components }: Document): Html {
  const { name, in: place, required, description, schema } = parameter;
  const remark = [remarkOf(schema, components.schemas), description ?? ""].filter((part) => part !== "").join("; ");
  return html`<tr><td><code>${name}</code></td><td class="soft">${place}${required ? ", required" : ""}</td>
<td><code>${outline(schema, components.schemas)}</code> ${words(remark)}</td></tr>`;
}

/** A command line that makes the call, with what is required. */
function curl({ method, path, requestBody }: Call): string {
  const url = `"$URL${URL_PATH}${path.replaceAll(/\{(\w+)\}/g, "<$1>")}"`;
  return [
    `curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${url}`,
    '-H "apikey: $SERVICE_KEY"',
    ...(method === "get" ? [] : ['-H "Idempotency-Key: $(uuidgen)"']),
    ...(requestBody === undefined ? [] : ['-H "content-type: application/json"', "-d '{ … }'"]),
  ].join(" \\\n  ");
}

function method({ method }: Call): Html {
  return html`<span class="method ${method}">${method.toUpperCase()}</span>`;
}

/** What the search looks at. */
function wordsOf({ method, path, operationId, summary, tags, ...call }: Call): string {
  return [method, path, operationId, summary, ...tags, ...call["x-nself-commands"]].join(" ").toLowerCase();
}

function paragraphs(text: string): Html[] {
  return text.split("\n\n").map((part) => html`<p>${words(part)}</p>`);
}

/** Text whose `code` is shown as such. */
function words(text: string): (Html | string)[] {
  return text.split("`").map((part, at) => (at % 2 === 1 ? html`<code>${part}</code>` : part));
}
