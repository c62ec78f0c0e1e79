// Profiles: servers by name, with their keys, in a file of the user's own.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import * as z from "zod";
import { CliError, EXIT } from "./errors.ts";

/** The name of what needs no profile: the stack that runs on this machine. */
export const LOCAL = "local";

const profile = z.strictObject({ url: z.url({ protocol: /^https?$/ }), serviceKey: z.string().min(1) });
const file = z.strictObject({ current: z.string(), profiles: z.record(z.string(), profile) });
export type Profile = z.infer<typeof profile>;
export type Profiles = z.infer<typeof file>;

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/i;

function path(environment: NodeJS.ProcessEnv): string {
  return join(environment.XDG_CONFIG_HOME || join(homedir(), ".config"), "nself", "profiles.json");
}

/** Throws CliError when the file is there and cannot be read. */
export function readProfiles(environment: NodeJS.ProcessEnv = process.env): Profiles {
  const at = path(environment);
  if (!existsSync(at)) return { current: LOCAL, profiles: {} };
  try {
    return file.parse(JSON.parse(readFileSync(at, "utf8")));
  } catch (cause) {
    throw new CliError(`${at} cannot be read as profiles: correct it or remove it`, { cause });
  }
}

/** Writes the file whole or not at all, for its owner alone: it holds keys. */
export function writeProfiles(profiles: Profiles, environment: NodeJS.ProcessEnv = process.env): void {
  const at = path(environment);
  mkdirSync(dirname(at), { recursive: true, mode: 0o700 });
  const temporary = `${at}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(profiles, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, at);
}

/** Checks what is to be kept under a name. Throws CliError that says what is wrong. */
export function makeProfile(name: string, draft: Profile): Profile {
  if (!NAME.test(name) || name === LOCAL) {
    throw new CliError(`"${name}" is no name for a profile: letters, digits and . _ - (and not "${LOCAL}")`, {
      exit: EXIT.usage,
    });
  }
  const { data } = profile.safeParse({ ...draft, url: draft.url.replace(/\/+$/, "") });
  if (data === undefined) {
    throw new CliError("a profile needs an http or https URL and a service key", { exit: EXIT.usage });
  }
  return data;
}

/** The profile of a name; undefined for the local stack. Throws CliError when there is none. */
export function findProfile({ profiles }: Profiles, name: string): Profile | undefined {
  if (name === LOCAL) return undefined;
  const found = Object.hasOwn(profiles, name) ? profiles[name] : undefined;
  if (found === undefined) {
    throw new CliError(`there is no profile "${name}"; nself profile list shows them`, { code: "no_profile" });
  }
  return found;
}
