// The copy trial: what copying a file through the process's memory costs.
//
// Source and target lie in the page cache, so it is the cost of the way, not of a disk. Each way
// runs in a process of its own, in turns; the copy is compared with its source. Called by run.ts.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runLoad } from "../children.ts";
import type { CopyCost } from "../drivers/copy.ts";
import type { Options } from "../options.ts";
import { root } from "../programs.ts";
import { median, medianRatio, minimum, rotated } from "../statistics.ts";
import { table } from "../table.ts";

const incumbent = "node_fs_promises";
const FILE_BYTES = 64 << 20;
const COPIES = 3;

export const summary = "time and CPU time of copying a 64 MiB file in blocks of --size";
export const driverNames = [incumbent, "node_fs_sync", "bun_uring"];

export async function run(options: Options): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-uring-bench-"));
  try {
    const from = join(folder, "from");
    writeFileSync(from, crypto.getRandomValues(new Uint8Array(1 << 16)));
    const piece = readFileSync(from);
    const bytes = new Uint8Array(FILE_BYTES);
    for (let at = 0; at < FILE_BYTES; at += piece.length) bytes.set(piece, at);
    bytes[FILE_BYTES - 1] = 1; // no two halves alike
    writeFileSync(from, bytes);
    for (const size of options.size) {
      for (const depth of options.depth) await runCell(folder, bytes, size, depth, options);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function runCell(
  folder: string,
  bytes: Uint8Array,
  size: number,
  depth: number,
  options: Options,
): Promise<void> {
  const names = options.drivers ?? driverNames;
  const costs = new Map(names.map((name) => [name, [] as CopyCost[]]));
  for (let round = 0; round < options.rounds; round++) {
    for (const name of rotated([...names], round)) {
      costs.get(name)?.push(...await measure(folder, bytes, name, size, depth));
    }
  }
  const of = (name: string, pick: (cost: CopyCost) => number) => (costs.get(name) ?? []).map(pick);
  const ratio = (name: string, pick: (cost: CopyCost) => number) =>
    names.includes(incumbent)
      ? medianRatio(of(name, pick), of(incumbent, pick)).toFixed(2)
      : "-";
  const mebibytes = FILE_BYTES / (1 << 20);
  const rows = names.map((name) => [
    name,
    (minimum(of(name, ({ cpuMs }) => cpuMs)) * 1000 / mebibytes).toFixed(0),
    (median(of(name, ({ cpuMs }) => cpuMs)) * 1000 / mebibytes).toFixed(0),
    (mebibytes * 1000 / median(of(name, ({ ms }) => ms))).toFixed(0),
    ratio(name, ({ cpuMs }) => cpuMs),
    ratio(name, ({ ms }) => ms),
  ]);
  console.log(`\nblocks of ${size} bytes, ${depth} at a time; ${options.rounds} rounds\n`);
  const header = ["way", "CPU µs/MiB min", "median", "MiB/s", "CPU / node:fs", "time / node:fs"];
  console.log(table(header, rows));
}

async function measure(
  folder: string,
  bytes: Uint8Array,
  name: string,
  size: number,
  depth: number,
): Promise<CopyCost[]> {
  const to = join(folder, "to");
  const driver = join(root, "bench/drivers/copy.ts");
  const numbers = [size, depth, COPIES].map(String);
  const command = [process.execPath, driver, name, join(folder, "from"), to, ...numbers];
  const text = await runLoad(command);
  if (text === "") throw new Error(`${name}: no result`);
  if (Buffer.compare(readFileSync(to), bytes) !== 0) throw new Error(`${name}: a wrong copy`);
  return JSON.parse(text) as CopyCost[];
}
