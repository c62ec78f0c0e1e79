// A run: for each scenario all servers side by side, in rounds that take turns, so that what else the machine does
// meets all of them alike.
import { setTimeout as sleep } from "node:timers/promises";
import { Generator } from "./generator.ts";
import type { Measurement } from "./orders.ts";
import { cpuOf, memoryOf } from "./proc.ts";
import type { Plan, Scenario } from "./scenarios.ts";
import { startBare, startOurs } from "./servers.ts";
import { type Summary, summaryOf } from "./statistics.ts";

/** What was found of one server in one scenario, over all rounds. */
export interface Finding {
  readonly server: string;
  /** Microseconds of the server's CPU a delivery, at the moderate rate and at saturation. */
  readonly cpu: Summary;
  readonly saturatedCpu: Summary;
  /** Publish to receipt at the moderate rate, milliseconds. */
  readonly p50: Summary;
  readonly p99: Summary;
  /** First to last receipt of one publish at the moderate rate, milliseconds. */
  readonly spread: Summary;
  /** At saturation. */
  readonly deliveriesPerSecond: Summary;
  /** The load generator's own CPU at saturation, microseconds a delivery: it must stay well below the server's. */
  readonly loadCpu: Summary;
  /** Microseconds of the server's CPU for a socket to connect and join. */
  readonly joinCpu: number;
  /** Bytes of the server's memory a socket, open and joined, before the first message. */
  readonly memory: number;
  /** Deliveries that never came, of all that were due. */
  readonly missing: number;
  readonly due: number;
}

/** Time for a server to come to rest once all sockets are in. */
const SETTLE_MS = 500;
const WARM_UP_SECONDS = 0.5;

interface Bench {
  readonly server: string;
  readonly generator: Generator;
  readonly joinCpu: number;
  readonly memory: number;
  readonly atModerateRate: Measurement[];
  readonly atSaturation: Measurement[];
}

/** Runs one scenario on freshly started servers. `progress` hears what is being done. Rejects when `signal` aborts. */
export async function runScenario(
  scenario: Scenario,
  plan: Plan,
  signal: AbortSignal,
  progress: (what: string) => void,
): Promise<Finding[]> {
  const { channels, socketsPerChannel } = scenario;
  const moderately = { perSecond: scenario.publishesPerSecond };
  const saturated = { onTheWay: scenario.publishesOnTheWay };
  await using stack = new AsyncDisposableStack();
  progress("starting");
  const running = [stack.use(await startBare()), stack.use(await startOurs())];
  const benches: Bench[] = [];
  for (const server of running.flatMap(({ servers }) => servers)) {
    signal.throwIfAborted();
    progress(`connecting, ${server.name}`);
    const generator = stack.use(new Generator(server, signal));
    const before = { cpu: cpuOf(server.pid), memory: memoryOf(server.pid) };
    await generator.open(channels, socketsPerChannel);
    await sleep(SETTLE_MS);
    const joinCpu = (cpuOf(server.pid) - before.cpu) / (channels * socketsPerChannel);
    const memory = (memoryOf(server.pid) - before.memory) / (channels * socketsPerChannel);
    benches.push({ server: server.name, generator, joinCpu, memory, atModerateRate: [], atSaturation: [] });
  }
  progress("warming up");
  for (const { generator } of benches) await generator.measure(saturated, WARM_UP_SECONDS);
  for (let round = 1; round <= plan.rounds; round++) {
    progress(`round ${round} of ${plan.rounds}`);
    for (const { generator, atModerateRate, atSaturation } of benches) {
      atModerateRate.push(await generator.measure(moderately, plan.moderateSeconds));
      atSaturation.push(await generator.measure(saturated, plan.saturatedSeconds));
    }
  }
  return benches.map(findingOf);
}

function findingOf({ server, joinCpu, memory, atModerateRate, atSaturation }: Bench): Finding {
  const all = [...atModerateRate, ...atSaturation];
  const missing = all.reduce((sum, measurement) => sum + measurement.missing, 0);
  return {
    server,
    cpu: summaryOf(atModerateRate.map(({ cpu }) => cpu)),
    saturatedCpu: summaryOf(atSaturation.map(({ cpu }) => cpu)),
    p50: summaryOf(atModerateRate.map(({ p50 }) => p50)),
    p99: summaryOf(atModerateRate.map(({ p99 }) => p99)),
    spread: summaryOf(atModerateRate.map(({ spread }) => spread)),
    deliveriesPerSecond: summaryOf(atSaturation.map(({ deliveriesPerSecond }) => deliveriesPerSecond)),
    loadCpu: summaryOf(atSaturation.map(({ loadCpu }) => loadCpu)),
    joinCpu,
    memory,
    missing,
    due: missing + all.reduce((sum, { deliveries }) => sum + deliveries, 0),
  };
}
