// What takes long: a spinner at a terminal, a line anywhere else.
import { progress, success } from "./output.ts";

/** Does `work` under a label; `done` says what came of it. Of a failure it says nothing: that is the caller's to tell. */
export async function waiting<T>(label: string, work: () => Promise<T>, done: (result: T) => string): Promise<T> {
  const stop = await begin(label);
  const result = await work().finally(stop);
  success(done(result));
  return result;
}

async function begin(label: string): Promise<() => void> {
  if (!process.stderr.isTTY || process.env.NO_COLOR) {
    progress(label);
    return () => {};
  }
  // Loaded here alone: most commands answer at once.
  const { default: spinner } = await import("yocto-spinner");
  const spinning = spinner({ text: label, stream: process.stderr }).start();
  return () => spinning.stop();
}
