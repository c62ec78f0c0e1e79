// What only PostgreSQL can say of row-change subscriptions, for the gateway of an object.
import type { Postgres } from "../../gateway/ports.ts";
import { openStore } from "../../store/store.ts";
import type { Env } from "../env.ts";
import { patiently } from "./patience.ts";

/** How long the list of captured tables is believed: every room whose name looks like a table's is looked up in it. */
const FRESH_MS = 3_000;

export function askPostgres(env: Env): Postgres {
  const ask = patiently();
  let captured: { readonly names: Promise<[schema: string, table: string][]>; readonly until: number } | undefined;
  return {
    literals: (type, literals) => ask(() => openStore(env).tables.literals(type, literals)),
    patternFault: (pattern) => ask(() => openStore(env).tables.patternFault(pattern)),
    async isCaptured(schema, table) {
      if (captured === undefined || Date.now() >= captured.until) {
        captured = { names: ask(() => openStore(env).tables.captured()), until: Date.now() + FRESH_MS };
        captured.names.catch(() => {
          captured = undefined;
        });
      }
      const names = await captured.names;
      return names.some(([s, t]) => (schema === "*" || s === schema) && (table === "*" || t === table));
    },
  };
}
