// What a second ring in a second Worker costs the first: CPU time per message of each thread, with
// one of them at work and with both.
//
// Each Worker echoes to itself: 32 connections over loopback, 64 bytes in flight on each, so that
// no load generator stands between. CPU time is the thread's own (/proc/thread-self/schedstat).
// Rounds with one and with two take turns; ratios are taken between neighbours.
//
//   run it   bun bench/micro/two_rings.ts [ROUNDS]
import { readFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { connect, listen, type Socket } from "bun-uring";
import { median, medianRatio, minimum } from "../statistics.ts";

declare const self: Worker;

const CONNECTIONS = 32;
const ROUND_MS = 300;
const WARM_UP_MS = 1000;

interface Cost {
  messages: number;
  cpuNs: number;
}

if (isMainThread) await compare(Number(process.argv[2] ?? 20));
else await work();

async function compare(rounds: number): Promise<void> {
  const workers = await Promise.all([0, 1].map(start));
  const [first] = workers as [Worker, Worker];
  await Promise.all(workers.map((worker) => cost(worker, WARM_UP_MS)));
  const alone: number[] = [];
  const together: number[] = [];
  for (let round = 0; round < rounds; round++) {
    alone.push(await cost(first, ROUND_MS));
    const [one = 0, other = 0] = await Promise.all(workers.map((own) => cost(own, ROUND_MS)));
    together.push((one + other) / 2);
  }
  const describe = (name: string, all: number[]) =>
    console.log(`${name}: least ${minimum(all).toFixed(2)}, median ${median(all).toFixed(2)}`);
  console.log(`CPU µs per message (sent, echoed, received), ${rounds} rounds of ${ROUND_MS} ms`);
  describe("one ring ", alone);
  describe("two rings", together);
  const least = (minimum(together) / minimum(alone)).toFixed(2);
  console.log(`two / one: median of ratios ${medianRatio(together, alone).toFixed(2)}, ` +
    `of the least ${least}`);
  process.exit(0);
}

async function start(): Promise<Worker> {
  const worker = new Worker(import.meta.url);
  await new Promise((resolve) => (worker.onmessage = resolve));
  return worker;
}

async function cost(worker: Worker, milliseconds: number): Promise<number> {
  const told = new Promise<Cost>((resolve) => {
    worker.onmessage = ({ data }: MessageEvent<Cost>) => resolve(data);
  });
  worker.postMessage(milliseconds);
  const { messages, cpuNs } = await told;
  return cpuNs / messages / 1000;
}

async function work(): Promise<void> {
  let messages = 0;
  let running = false;
  const echo = { data: (socket: Socket, chunk: Buffer) => void socket.write(chunk) };
  const listener = listen({ hostname: "127.0.0.1", port: 0, socket: echo });
  const socket = {
    data(peer: Socket, chunk: Buffer) {
      messages++;
      if (running) peer.write(chunk);
    },
  };
  const place = { hostname: "127.0.0.1", port: listener.port };
  const peers = await Promise.all(
    Array.from({ length: CONNECTIONS }, () => connect({ ...place, socket })),
  );
  self.onmessage = ({ data: milliseconds }: MessageEvent<number>) => {
    const before = { messages, cpuNs: cpuTime() };
    running = true;
    for (const peer of peers) peer.write(Buffer.alloc(64));
    setTimeout(() => {
      running = false;
      self.postMessage({
        messages: messages - before.messages,
        cpuNs: cpuTime() - before.cpuNs,
      } satisfies Cost);
    }, milliseconds);
  };
  self.postMessage("ready");
}

/** Of this thread, in nanoseconds: proc(5). */
function cpuTime(): number {
  return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[0]);
}
