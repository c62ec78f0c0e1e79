// What the admin API needs of the platform: the objects by name, and the store. Given for each request by the app.
import type { Tuning } from "../../settings/edge.ts";
import type { Store } from "../../store/store.ts";
import type { ChannelRpc, DirectoryRpc, GatewayRpc } from "../objects/rpc.ts";

export interface AdminPorts {
  /** The channel object of that name (`roomObject`, `feedObject`). */
  channel(name: string): ChannelRpc;
  gateway(name: string): GatewayRpc;
  directory(): DirectoryRpc;
  store: Store;
  /** The settings, read once for all requests. */
  settings: Tuning;
  /** Whether a request is let in, by its headers; with a reason: it is not. */
  admit(headers: Headers): Promise<{ claims: object } | Refusal>;
}

/** Why a request is not let in: nobody is known by it, or who is known may not. */
export interface Refusal {
  readonly status: 401 | 403;
  readonly reason: string;
}

/** What every admin route finds in its context: nothing of the platform but what the ports give. */
export interface AdminEnv {
  Bindings: object;
  Variables: { ports: AdminPorts };
}
