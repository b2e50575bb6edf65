// One run of the load generator against a server, and what makes it no measurement.
//
// A run with a lost, changed or surplus byte does not count, nor one without messages or without
// the server's CPU time. Called by the trials.
import { runLoad, type Server } from "./children.ts";
import type { Options } from "./options.ts";
import { program } from "./programs.ts";

export interface Cell {
  connections: number;
  size: number;
  depth: number;
}

/** One round of one driver. */
export interface Sample {
  /** CPU time of the server, µs. */
  cpuPerMessage: number;
  messagesPerSecond: number;
  /** Latency, µs. */
  p50: number;
  p99: number;
}

/** What the load generator prints, as far as it is used. */
interface LoadReport {
  messages: number;
  seconds: number;
  p50_us: number;
  p99_us: number;
  errors: number;
  server_cpu_us: number | null;
}

/** `name`: the driver, for the error. */
export async function measureLoad(
  name: string,
  server: Server,
  { connections, size, depth }: Cell,
  { seconds, warmup, rate }: Options,
): Promise<Sample> {
  const numbers = [server.port, connections, size, depth, seconds, warmup, rate, server.pid];
  const text = await runLoad([program("load"), "127.0.0.1", ...numbers.map(String)]);
  if (text === "") throw new Error(`${name}: the load generator gave no result`);
  const report = JSON.parse(text) as LoadReport;
  if (report.errors > 0) throw new Error(`${name}: ${report.errors} errors in the echo`);
  if (report.messages === 0) throw new Error(`${name}: no message came back in the window`);
  if (report.server_cpu_us === null) throw new Error(`${name}: the server's CPU time is unknown`);
  return {
    cpuPerMessage: report.server_cpu_us / report.messages,
    messagesPerSecond: report.messages / report.seconds,
    p50: report.p50_us,
    p99: report.p99_us,
  };
}
