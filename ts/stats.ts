// What a ring counts: counters with what follows from them, and latencies.
//
// The library keeps a histogram per kind of operation: bucket n counts durations from 2^n to
// 2^(n+1) nanoseconds. A percentile lies within its bucket by linear interpolation, so it is exact
// to the bucket and no better.

import { STATS_WORDS } from "./abi.ts";

export type Counter = keyof typeof STATS_WORDS;

export type RingStats = { readonly [Name in Counter]: number } & {
  /** Submissions and completions per system call. */
  readonly sqes_per_enter: number;
  readonly cqes_per_enter: number;
  /** Operations in flight. */
  readonly in_flight: number;
  /** Descriptors that operations made, or that came over sockets, nobody took, and were closed. */
  readonly descriptors_reclaimed: number;
  /** Borrowed chunks that `keep` holds, and those that were collected without `release`. */
  readonly chunks_kept: number;
  readonly chunks_collected: number;
  /** Posts whose key had no handler. */
  readonly posts_unhandled: number;
};

export function readCounters(
  read: (name: Counter) => number,
): Omit<RingStats, Exclude<keyof RingStats, Counter | "sqes_per_enter" | "cqes_per_enter">> {
  const names = Object.keys(STATS_WORDS) as Counter[];
  const counters = Object.fromEntries(names.map((name) => [name, read(name)]));
  const enters = Math.max(read("enters"), 1);
  return {
    ...(counters as Record<Counter, number>),
    sqes_per_enter: read("sqes") / enters,
    cqes_per_enter: read("cqes") / enters,
  };
}

/** Microseconds. */
export interface Latency {
  count: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

export function describeLatency(buckets: Float64Array): Latency {
  const count = buckets.reduce((sum, bucket) => sum + bucket, 0);
  return {
    count,
    p50: percentile(buckets, count, 0.5),
    p90: percentile(buckets, count, 0.9),
    p99: percentile(buckets, count, 0.99),
    max: percentile(buckets, count, 1),
  };
}

function percentile(buckets: Float64Array, count: number, fraction: number): number {
  let left = count * fraction;
  for (const [power, bucket] of buckets.entries()) {
    if (bucket > 0 && left <= bucket) return (2 ** power * (1 + left / bucket)) / 1000;
    left -= bucket;
  }
  return 0;
}
