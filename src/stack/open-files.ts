// How many sockets the system lets one process hold, by its limit of open files.

import { existsSync, readFileSync } from "node:fs";

/** workerd keeps two files open a socket (1.20261117.1, and every version with our compatibility date). */
export const FILES_A_SOCKET = 2;
/** Of the files, the part that is left to the objects: each channel in use has three. */
const LEFT = 0.1;

/** What a process may open at most: Node takes all of it for itself at its start, and its children inherit that. */
export function openFiles(): number | undefined {
  const path = "/proc/self/limits";
  if (!existsSync(path)) return undefined;
  const [, most] = /^Max open files +\d+ +(\d+)/m.exec(readFileSync(path, "utf8")) ?? [];
  return most === undefined ? undefined : Number(most);
}

/** The sockets for which so many files are enough, with room for channels. */
export function socketsFor(files: number): number {
  return Math.floor((files * (1 - LEFT)) / FILES_A_SOCKET);
}
