// Test projects by height: what needs no process, what runs inside workerd, and what starts the whole stack.
import { existsSync } from "node:fs";
import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"] } },
      {
        plugins: [
          cloudflareTest({
            // These tests break objects on purpose; the runtime would report each one with its stack.
            verbose: false,
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              bindings: {
                REALTIME_JWT_SECRET: "a secret of the edge tests alone",
                REALTIME_LISTENER_SECRET: "a listener secret of the edge tests",
                DATABASE_URL: "postgresql://nobody:none@localhost/none",
                REALTIME_SQL_URL: "http://127.0.0.1:9/sql",
              },
            },
          }),
        ],
        test: { name: "edge", include: ["test/edge/**/*.test.ts"], testTimeout: 30_000 },
      },
      // Each file starts processes of its own, and waits for them and for the clock most of the time.
      {
        test: {
          name: "stack",
          include: ["test/{listener,stack,cli,e2e,faults}/**/*.test.ts"],
          testTimeout: 30_000,
          hookTimeout: 60_000,
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      // What speaks SQL, once more against the oldest PostgreSQL that is supported and to be had.
      ...(existsSync("/usr/lib/postgresql/15/bin/initdb")
        ? [
            {
              test: {
                name: "postgres-15",
                include: [
                  "test/listener/{authorize,bell,capture,filters,history,lease,messages,outbox,publication,row-security,rows,subscribe,transactions,trust,visibility}.test.ts",
                ],
                env: { TEST_POSTGRES: "15" },
                testTimeout: 30_000,
                hookTimeout: 60_000,
                maxWorkers: 3,
                sequence: { groupOrder: 2 },
              },
            },
          ]
        : []),
    ],
  },
});
