// Schemas as a reader of the reference sees them: a value in outline, with what is said of its parts.
import type { Document, Schema } from "./openapi.ts";

type Schemas = Document["components"]["schemas"];
type Given = Schema | boolean;

/** A schema as an outline: `{ name: string, type?: "public" | "private" }`, over several lines, remarks after `//`. */
export function outline(given: Given, schemas: Schemas, indent = ""): string {
  if (typeof given === "boolean") return "any";
  const schema = resolved(given, schemas);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return choices.map((choice) => outline(choice, schemas, indent)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return arrayOf(outline(firstOf(schema.items), schemas, indent));
  if (schema.type !== "object") return [schema.type ?? "any"].flat().join(" | ");
  const { properties = {}, required = [] } = schema;
  const lines = Object.entries(properties).map(([name, property]) => {
    const mark = required.includes(name) ? "" : "?";
    const remark = remarkOf(property, schemas);
    const value = outline(property, schemas, `${indent}  `);
    return `${indent}  ${name}${mark}: ${value}${remark === "" ? "" : `  // ${remark}`}\n`;
  });
  return lines.length === 0 ? "object" : `{\n${lines.join("")}${indent}}`;
}

/** Bounds, form and description of a schema, in one line. */
export function remarkOf(given: Given, schemas: Schemas): string {
  if (typeof given === "boolean") return "";
  const { description, format, minimum, maximum, minLength, maxLength } = resolved(given, schemas);
  return [
    format === "date-time" ? "ISO 8601" : (format ?? ""),
    range(minimum, maximum, ""),
    range(minLength, maxLength, " characters"),
    description ?? "",
  ]
    .filter((part) => part !== "")
    .join("; ");
}

function resolved(schema: Schema, schemas: Schemas): Schema {
  const named = schema.$ref === undefined ? undefined : schemas[schema.$ref.replace(/^.*\//, "")];
  return named ?? schema;
}

function firstOf(items: Schema["items"]): Given {
  return (Array.isArray(items) ? items[0] : items) ?? true;
}

function arrayOf(item: string): string {
  return item.includes(" | ") && !item.startsWith("{") ? `(${item})[]` : `${item}[]`;
}

function range(least: number | undefined, most: number | undefined, unit: string): string {
  if (least === undefined && most === undefined) return "";
  if (most === undefined) return `from ${least}${unit}`;
  return least === undefined ? `at most ${most}${unit}` : `${least} to ${most}${unit}`;
}
