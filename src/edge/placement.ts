// Placement: which gateways a client may get, and where in the world they are to be.

/** Continents as the platform names them, and the location nearest to most of each. */
const HINTS: Readonly<Record<string, DurableObjectLocationHint>> = {
  AF: "afr",
  AS: "apac",
  EU: "weur",
  NA: "enam",
  OC: "oc",
  SA: "sam",
};

/** The location of a request's gateway; without the platform's geography there is just one, and no hint is needed. */
export function placement(request: Request): DurableObjectNamespaceGetDurableObjectOptions {
  const locationHint = locationOf(request);
  return locationHint === undefined ? {} : { locationHint };
}

function locationOf(request: Request): DurableObjectLocationHint | undefined {
  const continent = request.cf?.continent;
  return typeof continent === "string" ? HINTS[continent] : undefined;
}

/** Names of the gateways of a client's location, in the order in which they are tried: a random one first. */
export function gatewayNames(request: Request, shards: number): string[] {
  const location = locationOf(request) ?? "local";
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
  return Array.from({ length: shards }, (_, index) => `${location}-${(random + index) % shards}`);
}
