// The echo trial: what one message costs a server, in CPU time.
//
// One cell is (driver, connections, size, depth). Each cell runs in a fresh server process; within
// a round the drivers take turns, and the order rotates from round to round. Called by run.ts.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cores, startServer } from "../children.ts";
import { measureLoad, type Cell, type Sample } from "../measured_load.ts";
import type { Options } from "../options.ts";
import { program, root, stripped } from "../programs.ts";
import { median, medianRatio, minimum, rotated } from "../statistics.ts";
import { table } from "../table.ts";

/** The command, port included, for messages of this size, or the reason why it cannot run here. */
type Driver = (size: number) => Promise<string[] | string>;

const limit = "raw_uring";
const incumbent = "bun_listen";
const anyPort = "0";

const drivers: Record<string, Driver> = {
  [limit]: async (size) => [program(limit), anyPort, String(size)],
  [incumbent]: async () => bun("bun_listen.ts"),
  node_net_bun: async () => bun("node_net.ts"),
  node_net_node: node,
  bun_uring: async () => ours("bun_uring.ts"),
  bun_uring_dedicated: async () => ours("bun_uring_dedicated.ts"),
  bun_uring_borrowed: async () => ours("bun_uring_borrowed.ts"),
  raw_epoll: async () => [program("raw_epoll"), anyPort],
  bun_epoll: async () => ours("bun_epoll.ts"),
};

export const summary = "CPU time, throughput and latency of a TCP echo server on loopback";
export const driverNames = Object.keys(drivers);

export async function run(options: Options): Promise<void> {
  const names = await runnable(options.drivers ?? driverNames, options.drivers !== null);
  const { server, load } = cores();
  if (server === load) console.log("Only one core: server and load disturb each other.\n");
  for (const connections of options.connections) {
    for (const size of options.size) {
      for (const depth of options.depth) {
        await runCell({ connections, size, depth }, names, options);
      }
    }
  }
}

/** The drivers that can run here; one that was asked for by name must be able to. */
async function runnable(names: string[], asked: boolean): Promise<string[]> {
  const able: string[] = [];
  for (const name of names) {
    const command = await (drivers[name] as Driver)(1);
    if (typeof command !== "string") able.push(name);
    else if (asked) throw new Error(`${name}: ${command}`);
    else console.log(`${name} is left out: ${command}`);
  }
  return able;
}

async function runCell(cell: Cell, names: string[], options: Options): Promise<void> {
  const samples = new Map(names.map((name) => [name, [] as Sample[]]));
  for (let round = 0; round < options.rounds; round++) {
    for (const name of rotated(names, round)) {
      progress(`round ${round + 1} of ${options.rounds}: ${name}, ${describe(cell)}`);
      samples.get(name)?.push(await measure(name, cell, options));
    }
  }
  progress("");
  console.log(`\n${describe(cell)}; ${options.rounds} rounds of ${options.seconds} s\n`);
  console.log(render(samples));
}

async function measure(name: string, cell: Cell, options: Options): Promise<Sample> {
  const command = await (drivers[name] as Driver)(cell.size);
  if (typeof command === "string") throw new Error(`${name}: ${command}`);
  const server = await startServer(command);
  try {
    return await measureLoad(name, server, cell, options);
  } finally {
    await server.stop();
  }
}

function render(samples: Map<string, Sample[]>): string {
  const cpu = (name: string): number[] | undefined =>
    samples.get(name)?.map((one) => one.cpuPerMessage);
  const ratio = (name: string, reference: string): string => {
    const values = cpu(name);
    const references = cpu(reference);
    if (values === undefined || references === undefined) return "-";
    return medianRatio(values, references).toFixed(2);
  };
  const rows = [...samples].map(([name, rounds]) => {
    const costs = rounds.map((one) => one.cpuPerMessage);
    return [
      name,
      minimum(costs).toFixed(2),
      median(costs).toFixed(2),
      Math.round(median(rounds.map((one) => one.messagesPerSecond))).toString(),
      median(rounds.map((one) => one.p50)).toFixed(0),
      median(rounds.map((one) => one.p99)).toFixed(0),
      ratio(name, limit),
      ratio(name, incumbent),
    ];
  });
  const header = ["driver", "CPU µs/msg min", "median", "messages/s", "p50 µs", "p99 µs"];
  return table([...header, "CPU / raw", "CPU / Bun.listen"], rows);
}

function describe(cell: Cell): string {
  const depth = cell.depth === 1 ? "" : `, ${cell.depth} in flight on each`;
  return `${cell.connections} connections x ${cell.size} bytes${depth}`;
}

/** One line that overwrites itself; nothing when nobody watches. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function bun(file: string): string[] {
  return [process.execPath, join(root, "bench/drivers", file), anyPort];
}

function ours(file: string): string[] | string {
  if (!existsSync(join(root, "ts/index.ts"))) return "ts/index.ts does not exist";
  return bun(file);
}

async function node(): Promise<string[] | string> {
  const path = Bun.which("node");
  if (path === null) return "node is not on PATH";
  return [path, await stripped("bench/drivers/node_net.ts"), anyPort];
}
