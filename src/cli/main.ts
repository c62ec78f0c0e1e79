// `nself`: the entry of the command line.
import { enableCompileCache } from "node:module";

// Most of a short command's time would go into compiling it; hence also the import below, which must come after.
enableCompileCache();
const { run } = await import("./program.ts");

// The reader of a pipe may leave before we are done (`nself realtime messages general | head -1`): that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});

const code = await run(process.argv.slice(2));
// Once all is written, nothing is waited for: a socket or an idle connection must not hold the prompt back.
process.stdout.write("", () => process.exit(code));
