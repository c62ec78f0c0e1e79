// The reference of the admin API.
import { Hono } from "hono";
import type { RouterRoute } from "hono/types";
import { openApi } from "./openapi.ts";

export function reference(routes: () => readonly RouterRoute[]) {
  return new Hono().get("/openapi.json", (c) => c.json(openApi(routes(), "/admin/v1")));
}
