// The beside trial: what Bun's own work gets in a process whose echo server is busy.
//
// The same work runs beside a busy echo on this library and beside one on Bun.listen, each in a
// fresh process, in turns. What counts is the ratio, and how late a timer is. Called by run.ts.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startServer } from "../children.ts";
import type { BesideReport } from "../drivers/beside.ts";
import { measureLoad, type Sample as LoadSample } from "../measured_load.ts";
import type { Options } from "../options.ts";
import { root } from "../programs.ts";
import { median, medianRatio, quantile, rotated } from "../statistics.ts";
import { table } from "../table.ts";

const incumbent = "bun_listen";
const neighbours = ["timer", "fetch", "listen", "files"];

interface Sample {
  /** Works a second of the neighbour. */
  rate: number;
  /** How late the timer was, milliseconds. */
  p50: number;
  p99: number;
  /** Messages a second of the echo. */
  messages: number;
}

export const summary = "what timers, fetch, Bun.listen and files get beside a busy echo server";
export const driverNames = [incumbent, "bun_uring"];

export async function run(options: Options): Promise<void> {
  const names = options.drivers ?? driverNames;
  for (const connections of options.connections) {
    const rows: string[][] = [];
    for (const neighbour of neighbours) {
      rows.push(...await runNeighbour(neighbour, connections, names, options));
    }
    const header = ["neighbour", "beside", "works/s", "of Bun.listen's", "late ms p50", "p99"];
    console.log(`\n${connections} busy connections; ${options.rounds} rounds\n`);
    console.log(table([...header, "echoes/s"], rows));
  }
}

async function runNeighbour(
  neighbour: string,
  connections: number,
  names: readonly string[],
  options: Options,
): Promise<string[][]> {
  const samples = new Map(names.map((name) => [name, [] as Sample[]]));
  for (let round = 0; round < options.rounds; round++) {
    for (const name of rotated([...names], round)) {
      samples.get(name)?.push(await measure(name, neighbour, connections, options));
    }
  }
  const rates = (name: string) => (samples.get(name) ?? []).map(({ rate }) => rate);
  const timer = neighbour === "timer";
  return names.map((name) => {
    const of = (pick: (sample: Sample) => number) => median((samples.get(name) ?? []).map(pick));
    return [
      neighbour,
      name,
      of(({ rate }) => rate).toFixed(0),
      names.includes(incumbent) ? medianRatio(rates(name), rates(incumbent)).toFixed(2) : "-",
      timer ? of(({ p50 }) => p50).toFixed(2) : "-",
      timer ? of(({ p99 }) => p99).toFixed(2) : "-",
      of(({ messages }) => messages).toFixed(0),
    ];
  });
}

async function measure(
  name: string,
  neighbour: string,
  connections: number,
  options: Options,
): Promise<Sample> {
  const folder = mkdtempSync(join(tmpdir(), "bun-uring-bench-"));
  try {
    const path = join(folder, "report.json");
    const driver = join(root, "bench/drivers/beside.ts");
    const server = await startServer([process.execPath, driver, "0", name, neighbour, path]);
    let load: LoadSample;
    try {
      const cell = { connections, size: options.size[0] ?? 64, depth: 1 };
      load = await measureLoad(name, server, cell, options);
    } finally {
      await server.stop("SIGTERM");
    }
    const report = JSON.parse(readFileSync(path, "utf8")) as BesideReport;
    return sample(report, load, options);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What was done in the last `seconds` of the load's run. */
function sample(
  report: BesideReport,
  load: LoadSample,
  options: Options,
): Sample {
  const end = report.marks.at(-1);
  if (end === undefined) throw new Error("beside: the neighbour never had a turn");
  const from = end.at - options.seconds * 1000;
  const start = report.marks.find(({ at }) => at >= from) ?? end;
  const late = report.late.filter(({ at }) => at >= from).map(({ ms }) => ms);
  return {
    rate: (end.count - start.count) / ((end.at - start.at) / 1000),
    p50: late.length === 0 ? 0 : median(late),
    p99: late.length === 0 ? 0 : quantile(late, 0.99),
    messages: load.messagesPerSecond,
  };
}
