// Structured log: one JSON object a line on stderr.
const levels = ["debug", "info", "warn", "error"] as const;
export type Level = (typeof levels)[number];

type Write = (message: string, fields?: Record<string, unknown>) => void;
export type Log = Record<Level, Write>;

/** A log that keeps silent below `lowest`. Fields that are errors become their message and code. */
export function createLog(lowest: Level, write: (line: string) => void = (line) => process.stderr.write(line)): Log {
  const at =
    (level: Level): Write =>
    (message, fields = {}) => {
      if (levels.indexOf(level) < levels.indexOf(lowest)) return;
      const plain = Object.entries(fields).map(([name, value]) => [name, describe(value)]);
      write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...Object.fromEntries(plain) })}\n`);
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function describe(value: unknown): unknown {
  if (value instanceof AggregateError) return value.errors.map(describe);
  if (!(value instanceof Error)) return value;
  return "code" in value ? { message: value.message, code: value.code } : { message: value.message };
}
