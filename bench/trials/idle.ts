// The idle trial: what connections cost that do nothing, in memory, and in CPU time of those that
// do something.
//
// In each round one server has 64 busy connections and nobody else, another one the idle ones first
// and then the same. Memory is the resident size of the process before and after the idle ones have
// come, garbage collected both times. Called by run.ts.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cores, startServer, type Server } from "../children.ts";
import { raiseDescriptorLimit } from "../descriptor_limit.ts";
import { measureLoad } from "../measured_load.ts";
import type { Options } from "../options.ts";
import { root } from "../programs.ts";
import { median, medianRatio } from "../statistics.ts";
import { table } from "../table.ts";

interface Sample {
  /** Bytes of the process for each idle connection. */
  each: number;
  /** CPU µs for a message of the busy ones: without idle ones, with them. */
  alone: number;
  crowded: number;
}

const IDLE = 20_000;
/** Descriptors that a process has besides. */
const OTHERS = 500;
const BUSY = 64;

export const summary = `memory and CPU time with ${IDLE} idle connections beside ${BUSY} busy ones`;
export const driverNames = ["bun_uring"];

export async function run(options: Options): Promise<void> {
  const samples: Sample[] = [];
  const idle = Math.min(IDLE, raiseDescriptorLimit(IDLE + OTHERS) - OTHERS);
  if (idle < IDLE) console.log(`Only ${idle} idle connections: see ulimit -Hn.`);
  for (let round = 0; round < options.rounds; round++) samples.push(await measure(idle, options));
  const alone = samples.map((sample) => sample.alone);
  const crowded = samples.map((sample) => sample.crowded);
  const kib = median(samples.map(({ each }) => each)) / 1024;
  console.log(`\n${idle} idle connections; ${options.rounds} rounds of ${options.seconds} s\n`);
  const header = ["driver", "KiB each", "CPU µs/msg alone", "beside idle ones", "ratio"];
  const row = [kib.toFixed(2), median(alone).toFixed(2), median(crowded).toFixed(2)];
  console.log(table(header, [["bun_uring", ...row, medianRatio(crowded, alone).toFixed(2)]]));
}

async function measure(idle: number, options: Options): Promise<Sample> {
  const server = await started(idle);
  try {
    await load(server, options); // compilers and allocators have seen it all by then
    const before = await resident(server.pid);
    const holder = join(root, "bench/drivers/idle_clients.ts");
    const command = [process.execPath, holder, String(server.port), String(idle)];
    const clients = await startServer(command, cores().load);
    try {
      const each = (await resident(server.pid) - before) / idle;
      // One right after the other: a slow spell of the machine hits both.
      const without = await started(idle);
      const alone = await load(without, options).finally(() => without.stop());
      return { each, alone, crowded: await load(server, options) };
    } finally {
      await clients.stop();
    }
  } finally {
    await server.stop();
  }
}

function started(idle: number): Promise<Server> {
  const driver = join(root, "bench/drivers/bun_uring_idle.ts");
  return startServer([process.execPath, driver, "0", String(idle + BUSY)]);
}

/** CPU time for a message of the busy connections, µs. */
async function load(server: Server, options: Options): Promise<number> {
  const cell = { connections: BUSY, size: 64, depth: 1 };
  return (await measureLoad("bun_uring", server, cell, options)).cpuPerMessage;
}

/** Bytes: the least of some looks, each after a collection. */
async function resident(pid: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let look = 0; look < 5; look++) {
    process.kill(pid, "SIGUSR1");
    await Bun.sleep(200);
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const kib = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]);
    least = Math.min(least, kib * 1024);
  }
  return least;
}
