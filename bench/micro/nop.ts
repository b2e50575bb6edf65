// The price of one operation through the public API: NOPs in batches of 64, with callbacks and with
// promises, beside the same batches by the library's bare calls and by a Zig loop on a bare ring.
//
// Usage: `bun bench/micro/nop.ts`. The Zig loop is the limit; ratios are limit / form, best against
// best over windows of the same length, since a busy machine only ever adds. "one promise" is
// `ring.batch`, "64 promises" are as many handles under a `Promise.all`.
import { measure } from "mitata";
import { prepare, Ring } from "../../ts/index.ts";
import { native } from "../../ts/native.ts";
import { program } from "../programs.ts";

const count = 64;
/** Batches in a window: about a millisecond, as the Zig loop's. */
const window = { batch_samples: 128, batch_threshold: 1e6, gc: false } as const;

function limit(): number {
  const { stdout } = Bun.spawnSync([program("raw_nop"), String(count), "400"]);
  return (JSON.parse(stdout.toString()) as { min_ns: number }).min_ns;
}

const before = limit();
await using ring = new Ring();
await using bare = new Ring();
let completed = 0;
const complete = () => {
  completed++;
};

const forms: Record<string, () => unknown> = {
  "bare calls": () => {
    for (let i = 0; i < count; i++) native.bu_nop(bare.handle);
    let records = 0;
    while (records < count) records += native.bu_ring_turn(bare.handle, 0, 0);
  },
  callbacks: () => {
    completed = 0;
    for (let i = 0; i < count; i++) ring.nop(complete);
    ring.drainSync();
    if (completed !== count) throw new Error(`expected ${count} completions, got ${completed}`);
  },
  "64 promises": async () => {
    const operations = Array.from({ length: count }, () => ring.nop());
    await Promise.all(operations);
  },
  "one promise": async () => {
    await ring.batch(Array.from({ length: count }, () => prepare.nop()));
  },
};

const results: [string, number][] = [];
for (const [name, form] of Object.entries(forms)) {
  const { min } = await measure(form, window);
  results.push([name, min / count]);
}
const least = Math.min(before, limit());
console.log(`NOPs in batches of ${count}, least ns of each`);
console.log(`zig loop    ${least.toFixed(1)}`);
for (const [name, each] of results) {
  console.log(`${name.padEnd(12)}${each.toFixed(1)}  ${(least / each).toFixed(2)} x the limit`);
}
