// Copies a file within one process by one way, several times, and says what each copy cost.
//
// Usage: `bun copy.ts WAY FROM TO BLOCK DEPTH ROUNDS`. Prints a JSON list of `{ ms, cpuMs }`. The
// ways read and write blocks through memory of the process; none asks the kernel to copy.
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { BufferPool, Ring } from "bun-uring";

/** What one copy cost: time, and CPU time of all threads. */
export interface CopyCost {
  ms: number;
  cpuMs: number;
}

interface Plan {
  from: string;
  to: string;
  block: number;
  depth: number;
}

const ways: Record<string, (plan: Plan) => Promise<void>> = {
  async bun_uring({ from, to, block, depth }) {
    await using ring = new Ring();
    const pool = new BufferPool({ ring, size: block, count: depth });
    const source = await ring.openat(from);
    const target = await ring.openat(to, "w");
    const { size } = await ring.statx(from);
    await inBlocks({ block, depth }, async (next) => {
      using buffer = pool.acquire();
      if (buffer === null) throw new Error("copy: the pool is empty");
      for (let at = next(); at < size; at = next()) {
        const { bytes } = await ring.read(source, buffer, { at });
        await ring.write(target, buffer, { at, length: bytes });
      }
    });
    await Promise.all([ring.close(source), ring.close(target)]);
  },

  async node_fs_promises({ from, to, block, depth }) {
    await using source = await open(from);
    await using target = await open(to, "w");
    const { size } = await source.stat();
    await inBlocks({ block, depth }, async (next) => {
      const buffer = new Uint8Array(block);
      for (let at = next(); at < size; at = next()) {
        const { bytesRead } = await source.read(buffer, 0, block, at);
        await target.write(buffer, 0, bytesRead, at);
      }
    });
  },

  async node_fs_sync({ from, to, block }) {
    const source = openSync(from, "r");
    const target = openSync(to, "w");
    const buffer = new Uint8Array(block);
    let bytes: number;
    while ((bytes = readSync(source, buffer)) > 0) writeSync(target, buffer, 0, bytes);
    closeSync(source);
    closeSync(target);
  },
};

/** `depth` carriers that take the blocks' offsets from one counter. */
async function inBlocks(
  { block, depth }: { block: number; depth: number },
  carry: (next: () => number) => Promise<void>,
): Promise<void> {
  let offset = 0;
  const next = () => (offset += block) - block;
  await Promise.all(Array.from({ length: depth }, () => carry(next)));
}

const [, , way = "", from = "", to = "", block, depth, rounds] = process.argv;
const copy = ways[way];
if (copy === undefined) throw new Error(`WAY: expected ${Object.keys(ways).join(", ")}`);
const plan = { from, to, block: Number(block), depth: Number(depth) };
const costs: CopyCost[] = [];
// The first is not counted: it makes the target's pages and compiles the code.
for (let round = 0; round <= Number(rounds); round++) {
  const target = openSync(to, "a");
  ftruncateSync(target, 0);
  closeSync(target);
  const started = performance.now();
  const cpu = process.cpuUsage();
  await copy(plan);
  const { user, system } = process.cpuUsage(cpu);
  if (round > 0) costs.push({ ms: performance.now() - started, cpuMs: (user + system) / 1000 });
}
console.log(JSON.stringify(costs));
