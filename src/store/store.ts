// The store: everything the edge reads and writes in PostgreSQL, one part a resource.
import { NO_DATABASE } from "../settings/database.ts";
import { channelStore } from "./channels.ts";
import { type DatabaseEnv, openDatabase } from "./database.ts";
import { listenerStore } from "./listener.ts";
import { memberStore } from "./members.ts";
import { messageStore } from "./messages.ts";
import { nothing } from "./nothing.ts";
import { rightsStore } from "./rights.ts";
import { subscriptionStore } from "./subscriptions.ts";
import { tableStore } from "./tables.ts";
import { visibilityStore } from "./visibility.ts";

export type Store = ReturnType<typeof openStore>;

/** Opens the store. Cheap: no connection is made before the first statement, and none is kept. */
export function openStore(env: DatabaseEnv) {
  const query = openDatabase(env);
  const store = {
    /** False: there is none by choice. */
    hasDatabase: env.DATABASE_URL !== NO_DATABASE,
    channels: channelStore(query),
    listener: listenerStore(query),
    members: memberStore(query),
    messages: messageStore(query),
    rights: rightsStore(query),
    subscriptions: subscriptionStore(query),
    tables: tableStore(query),
    visibility: visibilityStore(query),
  };
  if (store.hasDatabase) return store;
  return {
    ...store,
    channels: { ...store.channels, ...nothing.channels },
    messages: { ...store.messages, ...nothing.messages },
    subscriptions: { ...store.subscriptions, ...nothing.subscriptions },
  };
}
