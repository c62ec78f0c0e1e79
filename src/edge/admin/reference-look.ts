// How the reference looks and behaves: one sheet and one script, both in the page itself, so that it needs no network.

export const style = `
:root {
  color-scheme: light dark;
  --paper: #fff; --side: #f6f7f9; --ink: #1b2230; --soft: #5a6474; --line: #e1e5eb; --code: #f3f5f8; --link: #1a5fd0;
  --get: #1a7f4b; --post: #1a5fd0; --put: #9a5b00; --delete: #c02b37;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #11151c; --side: #161b24; --ink: #e2e7ef; --soft: #97a2b4; --line: #28303d; --code: #1a202b; --link: #7db0ff;
    --get: #4cc38a; --post: #7db0ff; --put: #e3a84a; --delete: #ff7b83;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
:not(pre) > code { background: var(--code); border-radius: 4px; padding: .1em .35em; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0 1rem; overflow-x: auto; padding: .7rem .9rem; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
nav { background: var(--side); border-right: 1px solid var(--line); height: 100vh; overflow-y: auto; padding: 1.2rem 1rem 2rem; position: fixed; width: 19rem; }
nav h1 { font-size: 1rem; margin: 0 0 .8rem; }
nav h2 { color: var(--soft); font-size: .75rem; letter-spacing: .06em; margin: 1.2rem 0 .3rem; text-transform: uppercase; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li a { border-radius: 6px; color: var(--ink); display: flex; gap: .55rem; padding: .22rem .4rem; }
nav li a:hover, nav li a.here { background: var(--code); text-decoration: none; }
nav li .method { flex: none; font-size: .64rem; padding-top: .22rem; width: 2.9rem; }
input { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; color: inherit; font: inherit; padding: .4rem .65rem; width: 100%; }
main { margin-left: 19rem; max-width: 60rem; padding: 2rem 2.5rem 6rem; }
h1, h2, h3, h4 { line-height: 1.25; }
main h1 { margin-top: 0; }
main > section > h2 { border-bottom: 1px solid var(--line); margin: 3rem 0 .4rem; padding-bottom: .4rem; }
article { border-bottom: 1px solid var(--line); padding: 1.4rem 0 .6rem; }
article h3 { font-size: 1.08rem; margin: 0 0 .5rem; }
article h3 a { color: inherit; }
h4 { color: var(--soft); font-size: .75rem; letter-spacing: .06em; margin: 1rem 0 .2rem; text-transform: uppercase; }
.call { align-items: baseline; display: flex; flex-wrap: wrap; gap: .6rem; margin: 0 0 .6rem; }
.method { font-weight: 700; }
.get { color: var(--get); } .post { color: var(--post); } .put { color: var(--put); } .delete { color: var(--delete); }
.soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid var(--line); padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top; }
tr:first-child > td { border-top: 0; }
td:first-child { white-space: nowrap; }
summary { cursor: pointer; }
.example { position: relative; }
.example button { background: var(--paper); border: 1px solid var(--line); border-radius: 6px; color: var(--soft); cursor: pointer; font: inherit; font-size: .78rem; padding: .1rem .55rem; position: absolute; right: .5rem; top: .5rem; }
[hidden] { display: none !important; }
@media (max-width: 56rem) {
  nav { border-right: 0; border-bottom: 1px solid var(--line); height: auto; max-height: 45vh; position: static; width: auto; }
  main { margin-left: 0; padding: 1.2rem 1rem 4rem; }
  td, td:first-child { overflow-wrap: anywhere; white-space: normal; }
}
@media print { nav, .example button { display: none; } main { margin: 0; } }
`;

export const script = `
const find = document.querySelector("input");
const entries = [...document.querySelectorAll("[data-words]")];
const groups = [...document.querySelectorAll("[data-group]")];
find.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\\s+/);
  for (const entry of entries) entry.hidden = !words.every((word) => entry.dataset.words.includes(word));
  for (const group of groups) group.hidden = !group.querySelector("[data-words]:not([hidden])");
  document.querySelector("article:not([hidden])")?.scrollIntoView();
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target === find) return;
  event.preventDefault();
  find.focus();
});
for (const button of document.querySelectorAll("button")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.nextElementSibling.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
const links = new Map([...document.querySelectorAll("nav li a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) links.get(target.id).classList.toggle("here", isIntersecting);
}, { rootMargin: "0px 0px -75% 0px" });
for (const article of document.querySelectorAll("article")) seen.observe(article);
`;
