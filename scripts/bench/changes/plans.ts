// Plans: how long and how often is measured.

export interface Plan {
  readonly rounds: number;
  /** Of writers at full speed, and of offered rates. */
  readonly seconds: number;
  readonly bulkRows: number;
  readonly backlog: number;
  /** Rows a second that are offered, ten a statement; 0: as many as four writers can. */
  readonly offered: readonly number[];
  /** Rows a second of the latency's measurements, and their length. */
  readonly paces: readonly number[];
  readonly paceSeconds: number;
  readonly principals: readonly number[];
  readonly policyChanges: number;
  readonly filterSockets: number;
  readonly filterChannels: number;
}

export const plans: { readonly full: Plan; readonly quick: Plan } = {
  full: {
    rounds: 5,
    seconds: 4,
    bulkRows: 100_000,
    backlog: 100_000,
    offered: [1_000, 5_000, 10_000, 20_000, 0],
    paces: [10, 100, 1_000],
    paceSeconds: 10,
    principals: [1, 10, 100, 1_000],
    policyChanges: 20_000,
    filterSockets: 200,
    filterChannels: 50,
  },
  quick: {
    rounds: 2,
    seconds: 2,
    bulkRows: 100_000,
    backlog: 50_000,
    offered: [5_000, 20_000, 0],
    paces: [10, 100, 1_000],
    paceSeconds: 4,
    principals: [1, 100],
    policyChanges: 5_000,
    filterSockets: 100,
    filterChannels: 20,
  },
};

export interface Context {
  readonly plan: Plan;
  readonly signal: AbortSignal;
  progress(what: string): void;
}
