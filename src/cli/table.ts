// Tables: rows of cells as aligned text, as psql draws them, and as CSV.
import stringWidth from "string-width";
import { stamp } from "./time.ts";

/** Pads each column to its longest cell, or to its least width if that is more; two blanks between columns. */
export function columns(given: string[][], widths: number[]): string[] {
  const rows = given.map((row) => row.map(oneLine));
  const fits = (at: number) => Math.max(widths[at] ?? 0, ...rows.map((row) => row[at]?.length ?? 0));
  const width = (rows[0] ?? []).map((_, at) => fits(at));
  return rows.map((row) =>
    row
      .map((cell, at) => padded(cell, width[at] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

/** A table in the form of psql: names, a rule, rows. */
export function table(names: string[], rows: unknown[][]): string[] {
  const cells = rows.map((row) => row.map((cell, at) => oneLine(shown(cell, names[at] ?? ""))));
  const widths = names.map((name, at) =>
    Math.max(stringWidth(name), ...cells.map((row) => stringWidth(row[at] ?? ""))),
  );
  const draw = (row: string[]) => ` ${row.map((cell, at) => padded(cell, widths[at] ?? 0)).join(" | ")}`.trimEnd();
  return [draw(names), widths.map((width) => "-".repeat(width + 2)).join("+"), ...cells.map(draw)];
}

/** CSV (RFC 4180), with a header; times stay ISO 8601. */
export function csv(names: string[], rows: unknown[][], end = "\r\n"): string {
  return [names, ...rows.map((row) => row.map((cell, at) => text(cell, names[at] ?? "")))]
    .map((row) => `${row.map(quote).join(",")}${end}`)
    .join("");
}

/** As people read it. */
function shown(cell: unknown, name: string): string {
  return name.endsWith("_at") && typeof cell === "string" ? stamp(cell) : text(cell, name);
}

function text(cell: unknown, name: string): string {
  if (cell === undefined) return "";
  // Any JSON may be one: a text stays apart from a number, and a list from its only element.
  if (name === "payload") return JSON.stringify(cell);
  if (cell === null) return "";
  if (Array.isArray(cell)) return cell.join(", ");
  if (typeof cell === "object") return JSON.stringify(cell);
  return String(cell);
}

/** Columns are what a terminal shows, not characters: a letter of an East Asian script takes two. */
function padded(cell: string, width: number): string {
  return cell + " ".repeat(Math.max(0, width - stringWidth(cell)));
}

/** A line end is shown, not made. */
export function oneLine(cell: string): string {
  return cell.replaceAll("\n", "\\n");
}

function quote(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
