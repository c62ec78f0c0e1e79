// One POST over a connection that is kept open: at a hundred a second, what fetch does beside costs more than the request.
import * as http from "node:http";
import * as https from "node:https";

/** Most characters read of an answer. */
const mostText = 1_000_000;

/** A connection that has been idle for so long, milliseconds, may be closed by the other side at any moment. */
const idle = 4_000;

const agents = {
  http: new http.Agent({ keepAlive: true, timeout: idle }),
  https: new https.Agent({ keepAlive: true, timeout: idle }),
};

export interface Reply {
  status: number;
  text: string;
}

/**
 * Posts `body` to an `http:` or `https:` URL and answers what came back, whatever its status; a redirection is not
 * followed. Rejects when nothing comes back within `patience` milliseconds, or `signal` ends it.
 */
export function post(
  url: URL,
  headers: Readonly<Record<string, string>>,
  body: string,
  { patience, signal }: { patience: number; signal: AbortSignal },
): Promise<Reply> {
  const bytes = Buffer.from(body);
  const options = { method: "POST", signal, headers: { ...headers, "content-length": bytes.length } };
  return new Promise<Reply>((resolve, reject) => {
    const request =
      url.protocol === "https:"
        ? https.request(url, { ...options, agent: agents.https })
        : http.request(url, { ...options, agent: agents.http });
    const timer = setTimeout(() => request.destroy(new Error(`no answer within ${patience / 1_000} s`)), patience);
    request.once("error", reject);
    request.once("close", () => {
      clearTimeout(timer);
      reject(new Error("the connection closed before the answer was whole"));
    });
    request.once("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
        if (text.length > mostText) request.destroy(new Error(`the answer is longer than ${mostText} characters`));
      });
      response.once("error", reject);
      response.once("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.end(bytes);
  });
}
