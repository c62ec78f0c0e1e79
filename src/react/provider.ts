// The provider: which client the hooks below it use.
import type { RealtimeClient } from "@nself/client";
import { createContext, createElement, type ReactElement, type ReactNode, useContext } from "react";

const Context = createContext<RealtimeClient | undefined>(undefined);

export interface RealtimeProviderProps {
  readonly client: RealtimeClient;
  readonly children?: ReactNode;
}

/** Gives a client to all hooks below it. */
export function RealtimeProvider({ client, children }: RealtimeProviderProps): ReactElement {
  // React 18 knows no other way to provide.
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the nearest provider, unless one is given. Throws where there is neither. */
export function useRealtimeClient(given?: RealtimeClient): RealtimeClient {
  const provided = useContext(Context);
  const client = given ?? provided;
  if (client === undefined) {
    throw new Error("There is no RealtimeClient: put a <RealtimeProvider client={client}> around this component");
  }
  return client;
}
