// Questions to PostgreSQL: how few of them one session asks, whatever it subscribes to.
import { expect, test } from "vitest";
import type { Literals } from "../../src/gateway/ports.ts";
import { Questions } from "../../src/gateway/questions.ts";
import { settled } from "../support/world.ts";

/** PostgreSQL that answers when it is told to, and takes all literals but `bad`. */
function slow() {
  const asked: string[] = [];
  const answers: (() => void)[] = [];
  const answered = () => new Promise<void>((resolve) => void answers.push(resolve));
  const postgres = {
    async literals(type: string, literals: readonly string[]): Promise<Literals> {
      asked.push(`${type} ${literals.join(" ")}`);
      await answered();
      const wrong = literals.find((literal) => literal.startsWith("bad"));
      return wrong === undefined
        ? { json: literals.map((literal) => `"${literal}"`) }
        : { fault: `invalid input syntax: "${wrong}"`, sqlstate: "22P02" };
    },
    async patternFault(pattern: string): Promise<string | undefined> {
      asked.push(`pattern ${pattern}`);
      await answered();
      return undefined;
    },
  };
  const answer = async (): Promise<void> => {
    await settled();
    answers.shift()?.();
    await settled();
  };
  return { asked, answer, questions: new Questions(postgres) };
}

test("literals of one type are one question, and everybody gets their own", async () => {
  const { asked, answer, questions } = slow();
  const all = ["1", "2", "3"].map((day) => questions.literals("date", [`${day}a`, `${day}b`]));
  await answer();
  expect(asked).toEqual(["date 1a 1b 2a 2b 3a 3b"]);
  expect(await Promise.all(all)).toEqual(["1", "2", "3"].map((day) => ({ json: [`"${day}a"`, `"${day}b"`] })));
});

test("two are under way at once, and the others wait", async () => {
  const { asked, answer, questions } = slow();
  const all = ["a", "b", "c", "d"].map((pattern) => questions.patternFault(pattern));
  await settled();
  expect(asked).toEqual(["pattern a", "pattern b"]);
  await answer();
  expect(asked).toHaveLength(3);
  await answer();
  await answer();
  await answer();
  expect(await Promise.all(all)).toEqual([undefined, undefined, undefined, undefined]);
});

test("of several, who is wrong hears it, and nobody else", async () => {
  const { answer, questions } = slow();
  const [good, bad, worse] = [["1"], ["bad"], ["2", "bad2"]].map((literals) => questions.literals("date", literals));
  for (let turn = 0; turn < 4; turn++) await answer();
  expect(await good).toEqual({ json: ['"1"'] });
  expect(await bad).toEqual({ fault: 'invalid input syntax: "bad"', sqlstate: "22P02" });
  expect(await worse).toEqual({ fault: 'invalid input syntax: "bad2"', sqlstate: "22P02" });
});

test("more than a thousand are refused", async () => {
  const { questions } = slow();
  const all = Array.from({ length: 1_001 }, () => questions.patternFault("a"));
  await expect(all.at(-1)).rejects.toThrow("too many questions wait");
});
