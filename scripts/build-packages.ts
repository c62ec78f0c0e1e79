// Builds @nself/client and @nself/react into their `dist`: one file of JavaScript each, and their types.
// usage: npm run build:packages

import { execFileSync } from "node:child_process";
import { cpSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { type BuildOptions, build } from "esbuild";

const project = dirname(import.meta.dirname);

for (const name of ["client", "react"]) {
  const source = join(project, "src", name);
  const dist = join(source, "dist");
  rmSync(dist, { recursive: true, force: true });
  const options: BuildOptions = {
    entryPoints: [join(source, "index.ts")],
    bundle: true,
    format: "esm",
    target: "es2022",
    // Nothing of Node gets in: the build fails instead.
    platform: "neutral",
    external: ["react", "@nself/client"],
  };
  await build({ ...options, outfile: join(dist, "index.js"), sourcemap: true });
  const minified = await build({ ...options, minify: true, write: false });
  const tsc = join(project, "node_modules", ".bin", "tsc");
  const emit = ["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--stripInternal"];
  // Against the packages that are built already, as whoever installs them has them.
  const where = ["--paths", "null", "--rootDir", name === "client" ? dirname(source) : source];
  execFileSync(tsc, ["--project", source, ...emit, ...where, "--outDir", join(dist, "types")], { stdio: "inherit" });
  cpSync(join(project, "LICENSE"), join(dist, "LICENSE"));
  const compressed = gzipSync(minified.outputFiles?.[0]?.contents ?? "").length;
  const { version } = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
  console.log(`@nself/${name} ${version}: ${compressed} bytes minified and compressed`);
}
