// node scripts/run.mjs <file.ts> [arguments]: runs a TypeScript file of the project, installing first when needed.

import { resolve } from "node:path";
import { project, run } from "./bootstrap.mjs";

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  process.stderr.write("usage: node scripts/run.mjs <file.ts> [arguments]\n");
  process.exitCode = 2;
} else {
  await run(resolve(project, file), args);
}
