// Slugs: the part of a channel's name that becomes its topic.
import { parseTopic, wireTopic } from "../../protocol/topics.ts";

/**
 * Makes a channel's slug: lower case, blanks to `-`; letters and digits of any script and `. _ : -` stay, the rest is
 * dropped. Answers the reason when nothing is left, or when the topic would not be a room.
 */
export function slugOf(name: string): { slug: string } | { reason: string } {
  const slug = name
    .normalize("NFC")
    .trim()
    .toLowerCase()
    .replaceAll(/\s+/gu, "-")
    // Marks belong to the letters before them in many scripts; without them Hindi or Thai names would fall apart.
    .replaceAll(/[^\p{L}\p{M}\p{N}._:-]/gu, "");
  if (!/[\p{L}\p{N}]/u.test(slug)) {
    return { reason: `"${name}" gives an empty slug: a channel name needs a letter or a digit` };
  }
  const topic = parseTopic(wireTopic(slug));
  if ("reason" in topic) return { reason: topic.reason };
  if (topic.kind === "feed") return { reason: `"${slug}" is the name of a table's feed: choose another name` };
  return { slug };
}
