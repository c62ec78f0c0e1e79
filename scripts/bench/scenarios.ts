// Scenarios: how many channels and sockets, and how hard they are driven.

export interface Scenario {
  readonly name: string;
  readonly channels: number;
  readonly socketsPerChannel: number;
  /** All channels together, at the moderate rate. */
  readonly publishesPerSecond: number;
  /** Publishes that may be on their way at once at saturation. Bounded, because the platform has no backpressure. */
  readonly publishesOnTheWay: number;
}

/** The moderate rates are well below what one thread can do, so that queues play no part. */
export const scenarios: readonly Scenario[] = [
  {
    name: "1 channel × 1,000 sockets",
    channels: 1,
    socketsPerChannel: 1_000,
    publishesPerSecond: 10,
    publishesOnTheWay: 8,
  },
  {
    name: "200 channels × 10 sockets",
    channels: 200,
    socketsPerChannel: 10,
    publishesPerSecond: 500,
    publishesOnTheWay: 400,
  },
];

export interface Plan {
  readonly rounds: number;
  /** Measured time a round and target at the moderate rate, and at saturation, seconds. */
  readonly moderateSeconds: number;
  readonly saturatedSeconds: number;
}

export const plans: { readonly full: Plan; readonly quick: Plan } = {
  full: { rounds: 5, moderateSeconds: 3, saturatedSeconds: 1.5 },
  quick: { rounds: 2, moderateSeconds: 1, saturatedSeconds: 0.5 },
};
