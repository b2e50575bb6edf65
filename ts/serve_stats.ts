// The statistics of a server: the sums of what its Workers' rings have counted.
//
// Counts of Workers that were stopped stay in; those of one that died are lost with it. What is
// per system call is computed again from the sums.

import type { Share } from "./serve_messages.ts";
import { readCounters, type RingStats } from "./stats.ts";

export interface ServerStats {
  /** Workers that answered. */
  readonly workers: number;
  /** Workers that took a dead one's place. */
  readonly restarts: number;
  /** Connections that are open. */
  readonly connections: number;
  /** Every counter of `ring.stats()`, added up. */
  readonly ring: RingStats;
  /** Open connections by Worker. */
  readonly perWorker: readonly number[];
}

const PER_ENTER = { sqes_per_enter: "sqes", cqes_per_enter: "cqes" } as const;

export function sumShares(
  running: readonly Share[],
  past: readonly Share[],
  restarts: number,
): ServerStats {
  const perWorker = running.map(({ connections }) => connections);
  return {
    workers: running.length,
    restarts,
    connections: perWorker.reduce((sum, count) => sum + count, 0),
    ring: sumCounters([...running, ...past].map(({ ring }) => ring)),
    perWorker,
  };
}

function sumCounters(all: readonly RingStats[]): RingStats {
  const sums: Record<string, number> = readCounters(() => 0);
  for (const stats of all) {
    for (const [name, value] of Object.entries(stats)) sums[name] = (sums[name] ?? 0) + value;
  }
  const enters = Math.max(sums["enters"] ?? 0, 1);
  for (const [name, counter] of Object.entries(PER_ENTER)) {
    sums[name] = (sums[counter] ?? 0) / enters;
  }
  return sums as RingStats;
}
