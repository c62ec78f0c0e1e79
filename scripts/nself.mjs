#!/usr/bin/env node
// The `nself` command: starts the CLI from any working directory, in this process when its Node is new enough.

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { canRunHere, project, run } from "./bootstrap.mjs";

const main = join(project, "src", "cli", "main.ts");
if (canRunHere()) await import(pathToFileURL(main).href);
else await run(main, process.argv.slice(2));
