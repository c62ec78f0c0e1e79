// The admin API as a test calls it: with the service key, and failing loudly.
import type { TestStack } from "./stack.ts";

/** Calls the admin API. @returns the answer's body. Rejects with the problem when it is none of success. */
export async function admin(
  { url, serviceKey }: Pick<TestStack, "url" | "serviceKey">,
  method: string,
  path: string,
  body?: object,
): Promise<unknown> {
  const response = await fetch(`${url}/admin/v1${path}`, {
    method,
    headers: { apikey: serviceKey, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response.json();
}
