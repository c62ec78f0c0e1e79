// What the Worker under test is bound to.
type EdgeEnv = import("../../src/edge/env.ts").Env;

declare namespace Cloudflare {
  interface GlobalProps {
    mainModule: typeof import("../../src/edge/index.ts");
  }
  interface Env extends EdgeEnv {}
}
