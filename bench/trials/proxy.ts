// The proxy trial: what it costs to pass a message on to an echo server, and its answer back.
//
// The proxy has the server's core to itself; the load generator and the echo server share the
// other one. Only the proxy's CPU time is counted. HAProxy, where it is installed, runs in TCP mode
// with one thread, with and without splice(2); this library, too. Called by run.ts.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cores, startServer, type Server } from "../children.ts";
import { measureLoad, type Cell, type Sample } from "../measured_load.ts";
import type { Options } from "../options.ts";
import { program, root } from "../programs.ts";
import { median, medianRatio, minimum, rotated } from "../statistics.ts";
import { table } from "../table.ts";

/** Starts a proxy to a port, in a directory of its own. */
type Driver = (upstream: number, directory: string) => Promise<Server>;

const incumbent = "haproxy";
const drivers: Record<string, Driver> = {
  [incumbent]: (upstream, directory) => haproxy(upstream, directory, ""),
  haproxy_splice: (upstream, directory) => haproxy(upstream, directory, "option splice-auto"),
  bun_uring: (upstream) => bunUring(upstream, []),
  bun_uring_buffers: (upstream) =>
    bunUring(upstream, ["/usr/bin/env", "BUN_URING_DISABLE=splice_pipes"]),
};

function bunUring(upstream: number, prefix: string[]): Promise<Server> {
  const file = join(root, "bench/drivers/bun_uring_proxy.ts");
  return startServer([...prefix, process.execPath, file, "0", String(upstream)]);
}

export const summary = "CPU time of a TCP proxy in front of an echo server, against HAProxy";
export const driverNames = Object.keys(drivers);

export async function run(options: Options): Promise<void> {
  const names = runnable(options.drivers);
  for (const connections of options.connections) {
    for (const size of options.size) {
      for (const depth of options.depth) {
        await runCell({ connections, size, depth }, names, options);
      }
    }
  }
}

function runnable(asked: string[] | null): string[] {
  const names = asked ?? driverNames;
  if (haproxyPath() !== null) return names;
  const without = names.filter((name) => !name.startsWith(incumbent));
  if (asked !== null && without.length < names.length) throw new Error("haproxy is not installed");
  console.log("haproxy is left out: it is not installed");
  return without;
}

/** Debian installs it where only root looks. */
function haproxyPath(): string | null {
  return Bun.which("haproxy", { PATH: `${process.env["PATH"] ?? ""}:/usr/sbin` });
}

async function runCell(cell: Cell, names: string[], options: Options): Promise<void> {
  const samples = new Map(names.map((name) => [name, [] as Sample[]]));
  for (let round = 0; round < options.rounds; round++) {
    for (const name of rotated(names, round)) {
      samples.get(name)?.push(await measure(name, cell, options));
    }
  }
  const { connections, size, depth } = cell;
  const what = `${connections} connections x ${size} bytes, ${depth} in flight on each`;
  console.log(`\n${what}; ${options.rounds} rounds of ${options.seconds} s\n`);
  console.log(render(samples));
}

async function measure(name: string, cell: Cell, options: Options): Promise<Sample> {
  const directory = mkdtempSync(join(tmpdir(), "bench-proxy-"));
  const echo = [program("raw_uring"), "0", String(cell.size)];
  const upstream = await startServer(echo, cores().load);
  try {
    const server = await (drivers[name] as Driver)(upstream.port, directory);
    try {
      return await measureLoad(name, server, cell, options);
    } finally {
      await server.stop();
    }
  } finally {
    await upstream.stop();
    rmSync(directory, { recursive: true });
  }
}

function render(samples: Map<string, Sample[]>): string {
  const cpu = (name: string) => samples.get(name)?.map((one) => one.cpuPerMessage);
  const reference = cpu(incumbent);
  const rows = [...samples].map(([name, rounds]) => {
    const costs = cpu(name) as number[];
    // Work for each second of CPU time: above 1 is better than HAProxy.
    const ratio = reference === undefined ? "-" : medianRatio(reference, costs).toFixed(2);
    return [
      name,
      minimum(costs).toFixed(2),
      median(costs).toFixed(2),
      Math.round(median(rounds.map((one) => one.messagesPerSecond))).toString(),
      median(rounds.map((one) => one.p99)).toFixed(0),
      ratio,
    ];
  });
  const header = ["proxy", "CPU µs/msg min", "median", "messages/s", "p99 µs"];
  return table([...header, "per CPU second / HAProxy"], rows);
}

// HAProxy --------------------------------------------------------------------------------------

async function haproxy(upstream: number, directory: string, option: string): Promise<Server> {
  const path = haproxyPath() as string;
  const port = freePort();
  const file = join(directory, "haproxy.cfg");
  writeFileSync(file, `global
  nbthread 1
  maxconn 4200
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  ${option}
listen bench
  bind 127.0.0.1:${port} backlog 4096
  server echo 127.0.0.1:${upstream}
`);
  // In the foreground, as one process: its number is the one that is measured.
  const script = 'echo "listening $0" && exec "$@"';
  const command = ["/bin/sh", "-c", script, String(port), path, "-db", "-q", "-f", file];
  const server = await startServer(command);
  await accepts(port);
  return server;
}

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** It says nothing when it listens. */
async function accepts(port: number): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await isAccepted(port))) {
    if (performance.now() > deadline) throw new Error("haproxy does not listen");
    await Bun.sleep(10);
  }
}

function isAccepted(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
