// Work for many items at once, but never for too many.

/** How many objects are called at once. */
export const AT_ONCE = 32;

/** Runs a job for each item, 32 at a time. Rejects with the first failure; jobs that run then run on. */
export async function forEachAtOnce<T>(items: Iterable<T>, job: (item: T) => Promise<unknown>): Promise<void> {
  const queue = items[Symbol.iterator]();
  const work = async (): Promise<void> => {
    for (let next = queue.next(); !next.done; next = queue.next()) await job(next.value);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** Runs a job for each item likewise, whatever becomes of others; answers those that succeeded, in order, and the errors. */
export async function settleAtOnce<T, Answer>(
  items: readonly T[],
  job: (item: T) => Promise<Answer>,
): Promise<{ answers: Answer[]; errors: unknown[] }> {
  const settled: PromiseSettledResult<Answer>[] = [];
  await forEachAtOnce(items.entries(), async ([index, item]) => {
    [settled[index]] = await Promise.allSettled([job(item)]);
  });
  return {
    answers: settled.flatMap((result) => (result.status === "fulfilled" ? [result.value] : [])),
    errors: settled.flatMap((result) => (result.status === "rejected" ? [result.reason] : [])),
  };
}
