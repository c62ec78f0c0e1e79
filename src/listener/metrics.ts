// The listener's figures in the text format of Prometheus, for GET /metrics.
import type { Listener } from "./listener.ts";
import type { SqlOverHttp } from "./sql-over-http.ts";

type Kind = "counter" | "gauge";
/** Name without prefix, kind, what it is, and its value or its values by label. */
type Metric = readonly [name: string, kind: Kind, help: string, value: number | [label: string, value: number][]];

const states = ["connecting", "standby", "active", "arming", "armed", "polling", "draining"] as const;
const alarms = ["none", "half", "stopped"] as const;

/** All figures. Labels are from fixed lists: how many series there are does not depend on tables or clients. */
export function metricsText(listener: Listener, sql: SqlOverHttp): string {
  const { counters } = listener;
  const { state, leaseHolder, epoch, backlog, outbox, parked, edgeFailing } = listener.status();
  const { open, idle, waiting } = sql.pool;
  const metrics: Metric[] = [
    ["changes_captured_total", "counter", "Row changes read from the outbox.", counters.captured],
    ["changes_delivered_total", "counter", "Row changes that the edge has taken.", counters.changes],
    ["changes_parked_total", "counter", "Row changes set apart because their feed held up others.", counters.parked],
    ["changes_refused_total", "counter", "Row changes that the edge refused for good.", counters.refused],
    ["changes_given_up_total", "counter", "Parked row changes given up for a gap.", counters.givenUp],
    ["batches_total", "counter", "Batches that the edge has taken.", counters.batches],
    ["batch_retries_total", "counter", "Batches that were sent again.", counters.retries],
    ["batch_bytes_total", "counter", "Bytes of row changes that the edge has taken.", counters.bytes],
    ["delivery_seconds_sum", "counter", "Seconds from writing to delivery, of all changes together.", counters.seconds],
    ["lag_seconds", "gauge", "Age of the oldest row change that was read and is not delivered.", listener.lagSeconds],
    ["backlog_changes", "gauge", "Row changes that were read and are not delivered.", backlog],
    ["parked_changes", "gauge", "Row changes that are parked.", parked.reduce((sum, { changes }) => sum + changes, 0)],
    ["outbox_bytes", "gauge", "Bytes that wait in PostgreSQL.", outbox.bytes],
    ["outbox_limit_bytes", "gauge", "Bytes that may wait before capture stops.", outbox.limit],
    ["outbox_alarm", "gauge", "Which alarm stands.", one("alarm", alarms, outbox.alarm)],
    ["edge_failing", "gauge", "Whether the edge does not take some batch.", edgeFailing === null ? 0 : 1],
    ["leader", "gauge", "Whether this listener holds the lease.", leaseHolder ? 1 : 0],
    ["epoch", "gauge", "The epoch of the lease, 0 without one.", epoch ?? 0],
    ["state", "gauge", "What the listener is doing.", one("state", states, state)],
    [
      "sql_sessions",
      "gauge",
      "Sessions of SQL over HTTP.",
      [
        [`{use="idle"}`, idle],
        [`{use="busy"}`, open - idle],
      ],
    ],
    ["sql_requests_waiting", "gauge", "SQL requests that wait for a session.", waiting],
  ];
  return metrics.map(lines).join("");
}

function one<T extends string>(label: string, values: readonly T[], now: T): [string, number][] {
  return values.map((value) => [`{${label}="${value}"}`, value === now ? 1 : 0]);
}

function lines([name, kind, help, value]: Metric): string {
  const full = `nself_realtime_listener_${name}`;
  const samples = typeof value === "number" ? [["", value] as const] : value;
  const text = samples.map(([labels, sample]) => `${full}${labels} ${sample}\n`).join("");
  return `# HELP ${full} ${help}\n# TYPE ${full} ${kind}\n${text}`;
}
