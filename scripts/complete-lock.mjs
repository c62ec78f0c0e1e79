// Completes package-lock.json with the platform packages that the registry at hand does not hold.
//
// `npm ci` refuses a lock file in which an optional dependency is missing, also one of another platform; a registry
// that lacks those packages makes `npm install` leave them out. Run it after any change of dependencies:
// `node scripts/complete-lock.mjs`. It adds names, versions, os and cpu, and changes nothing else.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const path = join(dirname(fileURLToPath(import.meta.url)), "..", "package-lock.json");
const lock = JSON.parse(readFileSync(path, "utf8"));
const { packages } = lock;

const SYSTEMS = ["android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "sunos", "aix", "win32"];

/** What a platform package's name says of where it runs. */
function platformOf(name) {
  const system =
    SYSTEMS.find((candidate) => name.includes(candidate)) ?? (name.includes("windows") ? "win32" : "linux");
  const cpu = ["arm64", "ia32", "ppc64", "riscv64", "s390x", "loong64", "arm"].find((one) => name.includes(one));
  return { os: [system], cpu: [cpu ?? "x64"] };
}

/** The entry that a package resolves a dependency to: the nearest node_modules upwards. */
function resolved(from, name) {
  for (let folder = from; ; folder = folder.slice(0, Math.max(folder.lastIndexOf("/node_modules/"), 0))) {
    const candidate = `${folder === "" ? "" : `${folder}/`}node_modules/${name}`;
    if (packages[candidate] !== undefined) return packages[candidate];
    if (folder === "") return undefined;
  }
}

let added = 0;
for (const [from, { optionalDependencies = {}, dev }] of Object.entries(packages)) {
  for (const [name, wanted] of Object.entries(optionalDependencies)) {
    const version = wanted.replace(/^[\^~]/, "");
    const found = resolved(from, name);
    if (found !== undefined && (found.version === version || version !== wanted)) continue;
    const beside = `${from.slice(0, from.lastIndexOf("node_modules/"))}node_modules/${name}`;
    const key = packages[beside] === undefined ? beside : `${from}/node_modules/${name}`;
    packages[key] = { version, ...platformOf(name), ...(dev ? { dev } : {}), optional: true };
    added++;
  }
}

lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added} packages of other platforms added`);
