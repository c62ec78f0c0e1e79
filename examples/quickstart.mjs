// The quick start: one client joins a channel, broadcasts, tracks presence and listens to the table `todos`.
//
// Run it from the project's folder while `npm start` runs in another terminal. The client is the stock Supabase client;
// only URL and key are ours.
import { readFileSync } from "node:fs";
import { createClient } from "@supabase/supabase-js";

const home = process.env.NSELF_HOME ?? ".nself";
const { url, anonKey } = JSON.parse(readFileSync(`${home}/stack.json`, "utf8"));
const supabase = createClient(url, anonKey);

const channel = supabase.channel("room-1", {
  config: { broadcast: { self: true, ack: true }, presence: { key: "ann" } },
});

channel
  .on("broadcast", { event: "*" }, ({ event, payload, meta }) => {
    console.log(`broadcast  ${event} ${JSON.stringify(payload)}  (seq ${meta.seq})`);
  })
  .on("presence", { event: "join" }, ({ key }) => console.log(`presence   ${key} joined`))
  .on("presence", { event: "leave" }, ({ key }) => console.log(`presence   ${key} left`))
  .on("postgres_changes", { event: "*", schema: "public", table: "todos" }, ({ eventType, new: row, old }) => {
    console.log(`row        ${eventType} ${JSON.stringify(eventType === "DELETE" ? old : row)}`);
  })
  .on("system", {}, ({ status, message }) => console.log(`system     ${status}: ${message}`))
  .subscribe(async (status, error) => {
    console.log(`channel    ${status}${error ? `: ${error.message}` : ""}`);
    if (status !== "SUBSCRIBED") return;
    await channel.track({ online_at: new Date().toISOString() });
    await channel.send({ type: "broadcast", event: "hello", payload: { from: "the quick start" } });
    console.log("waiting for rows of public.todos (Ctrl+C ends)");
  });

process.on("SIGINT", async () => {
  await supabase.removeAllChannels();
  process.exit(0);
});
