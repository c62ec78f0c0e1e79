// The codes of closes and errors, and the page that lists them: `npx vitest run test/unit/errors.test.ts -u` writes it.
import { globSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { closes } from "../../src/protocol/closes.ts";
import { broadcastErrors, type ErrorKind, joinErrors, problems, reasonOf } from "../../src/protocol/errors.ts";

test("docs/errors.md lists every code with what to do", async () => {
  const page = `# Codes

Written from \`src/protocol/closes.ts\` and \`src/protocol/errors.ts\` by \`test/unit/errors.test.ts\`. _Again_ says whether the same,
tried again in a while, may go well.

## Closes of a socket

The stock Supabase client connects again after any of them.

${table([
  ["code", "reason", "again", "what to do"],
  ...Object.values(closes).map(({ code, reason, reconnect, advice }) => [`${code}`, reason, yesNo(reconnect), advice]),
])}

## Refused joins

The reply's \`reason\` is the code, a colon and a message.

${kinds(joinErrors)}

## Refused broadcasts

The reply's \`error\`, where acks are asked for; where not, a \`system\` message of the extension \`broadcast\` says the same in words.

${kinds(broadcastErrors)}

## Problems of the admin API

The \`code\` of a problem document (RFC 9457, \`application/problem+json\`); its \`detail\` says what exactly.

${kinds(problems)}
`;
  await expect(page).toMatchFileSnapshot("../../docs/errors.md");
});

test("every error code is used", () => {
  const source = globSync("src/**/*.ts")
    .filter((path) => !path.endsWith("protocol/errors.ts"))
    .map((path) => readFileSync(path, "utf8"))
    .join();
  const codes = Object.keys({ ...joinErrors, ...broadcastErrors, ...problems });
  expect(codes.filter((code) => !source.includes(`"${code}"`))).toEqual([]);
});

test("a reason begins with its code, as clients match on it", () => {
  expect(reasonOf("Unauthorized", "You are banned")).toBe("Unauthorized: You are banned");
});

function kinds(all: Record<string, ErrorKind>): string {
  const entries = Object.entries(all);
  const withStatus = entries.some(([, { status }]) => status !== undefined);
  return table([
    ["code", ...(withStatus ? ["status"] : []), "what it says", "again", "what to do"],
    ...entries.map(([code, { title, status, reconnect, remedy }]) => [
      `\`${code}\``,
      ...(withStatus ? [`${status ?? ""}`] : []),
      title,
      yesNo(reconnect),
      remedy,
    ]),
  ]);
}

function yesNo(reconnect: boolean): string {
  return reconnect ? "yes" : "no";
}

/** A table of Markdown, its columns as wide as their longest cell. */
function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  const line = (cells: string[], fill = " "): string =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0, fill)).join(" | ")} |`;
  const [head = [], ...body] = rows;
  return [
    line(head),
    line(
      widths.map(() => ""),
      "-",
    ),
    ...body.map((row) => line(row)),
  ].join("\n");
}
