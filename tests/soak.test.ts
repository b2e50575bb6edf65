// A long life of operations: memory, descriptors, slots and buffers at its end are those of its
// beginning. `npm run soak` makes ten million of them.

import { expect, setDefaultTimeout, test } from "bun:test";
import type { RingStats } from "../ts/index.ts";
import { answer, program } from "./support/child.ts";
import { patience } from "./support/patience.ts";

const MIB = 1 << 20;
const operations = Number(process.env["BUN_URING_SOAK"] ?? 300_000);
/** Ten times what they take on a slow machine. */
const timeoutMs = 30_000 + operations / 5;

setDefaultTimeout((timeoutMs + 10_000) * patience);

interface Sample {
  ended: number;
  resident: number;
  descriptors: number;
  slots: number;
  table: number;
  buffers: number;
}

/** The engine's own memory goes up and down by more than the limit: the middle one of some. */
function medianResident(samples: readonly Sample[]): number {
  return samples.map(({ resident }) => resident).sort((a, b) => a - b)[samples.length >> 1] ?? 0;
}

test(`${operations} operations leave no memory, no descriptor and no slot`, async () => {
  const options = { arguments: [String(operations)], timeoutMs };
  const { ended, samples, stats } = await answer<{
    ended: number;
    samples: Sample[];
    stats: RingStats;
  }>(program("many_operations"), options);
  expect([ended, samples.length]).toEqual([operations, 10]);
  const [first] = samples;
  for (const { descriptors, slots, table, buffers } of samples) {
    expect({ descriptors, slots, buffers }).toEqual({
      descriptors: first?.descriptors ?? 0, slots: 0, buffers: 4,
    });
    expect(table).toBe(first?.table ?? 0);
  }
  expect([stats.in_flight, stats.cqes_overflowed, stats.operations_waiting]).toEqual([0, 0, 0]);
  const [early, late] = [samples.slice(0, 5), samples.slice(5)];
  const shown = samples.map((sample) => (sample.resident / MIB).toFixed(1)).join(" ");
  const grown = (medianResident(late) - medianResident(early)) / MIB;
  expect(grown, `MiB of growth; all: ${shown}`).toBeLessThanOrEqual(3);
});
