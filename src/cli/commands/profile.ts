// Commands on profiles: profile add, use, list, remove.
import type { Command } from "commander";
import { type ReadOptions, reading, readLine, text } from "../arguments.ts";
import { list, show, success } from "../output.ts";
import { findProfile, LOCAL, makeProfile, readProfiles, writeProfiles } from "../profiles.ts";

/** Adds the group profile. */
export function profileCommands(program: Command): void {
  const profile = program.command("profile").description("servers by name, with their keys");
  profile
    .command("add")
    .description("keep a server under a name; a name that is there is overwritten")
    .argument("<name>", "letters, digits and . _ -")
    .argument("<url>", "such as https://realtime.example.com", text)
    .argument("[key]", "its service key (default: a line of standard input, which no list of processes shows)")
    .action(add);
  profile
    .command("use")
    .description("use a server from now on")
    .argument("<name>", `a profile, or ${LOCAL} for the stack on this machine`)
    .action(use);
  reading(profile.command("list").description("list the servers; * is the one in use")).action(listProfiles);
  profile.command("remove").description("forget a server and its key").argument("<name>", "a profile").action(remove);
}

async function add(name: string, url: string, key: string | undefined): Promise<void> {
  const given = makeProfile(name, { url, serviceKey: key ?? (await readLine(`Service key of ${url}: `)) });
  const { current, profiles } = readProfiles();
  writeProfiles({ current, profiles: { ...profiles, [name]: given } });
  success(`Profile kept: ${name} (${given.url}). To use it: nself profile use ${name}`);
}

function use(name: string): void {
  const kept = readProfiles();
  const profile = findProfile(kept, name);
  writeProfiles({ ...kept, current: name });
  success(`In use: ${name} (${profile?.url ?? "the stack on this machine"})`);
}

function listProfiles(_json: unknown, { format }: ReadOptions): void {
  const { current, profiles } = readProfiles();
  const named = Object.entries(profiles).map(([name, { url }]) => ({ name, url: url.toString() }));
  const value = [{ name: LOCAL, url: "the stack on this machine" }, ...named].map((row) => ({
    ...row,
    in_use: row.name === current,
  }));
  show(format, {
    value,
    keys: ["name", "url", "in_use"],
    text: () =>
      list(
        value.map(({ name, url, in_use }) => [in_use ? "*" : " ", name, url]),
        [1, 12],
      ),
  });
}

function remove(name: string): void {
  const kept = readProfiles();
  findProfile(kept, name);
  const { [name]: _removed, ...profiles } = kept.profiles;
  writeProfiles({ current: kept.current === name ? LOCAL : kept.current, profiles });
  success(`Profile removed: ${name}`);
}
