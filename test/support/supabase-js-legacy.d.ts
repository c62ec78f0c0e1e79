// Tests use only what both releases have, so one set of types serves: two sets would make no test run on both.
declare module "supabase-js-legacy" {
  export { createClient } from "@supabase/supabase-js";
}
