// Workers with rings of their own, in one process: echoes in two of them, then many that are
// terminated with open connections. Prints what arrived and what the process holds at the end.

import { connect, Ring } from "../../../ts/index.ts";
import { descriptors, ringBytes } from "../descriptors.ts";
import { End } from "../pair.ts";
import { Random } from "../random.ts";
import { turns, until } from "../until.ts";

interface Echo {
  worker: Worker;
  port: number;
  /** Resolves with the next message that has the field. */
  next(field: string): Promise<number>;
}

const path = new URL("echo_worker.ts", import.meta.url).href;

async function startEcho(): Promise<Echo> {
  const worker = new Worker(path);
  const queue: Record<string, number>[] = [];
  let wake = () => undefined as void;
  worker.onmessage = ({ data }: MessageEvent<Record<string, number>>) => {
    queue.push(data);
    wake();
  };
  const next = async (field: string): Promise<number> => {
    for (;;) {
      const at = queue.findIndex((message) => field in message);
      if (at >= 0) return queue.splice(at, 1)[0]?.[field] as number;
      await new Promise<void>((resolve) => (wake = resolve));
    }
  };
  return { worker, port: await next("port"), next };
}

/** Echoes random bytes over the connection; true if they came back. */
async function echoes(port: number, random: Random, size: number): Promise<boolean> {
  const end = new End();
  const socket = await connect({ hostname: "127.0.0.1", port, socket: end.handlers });
  const bytes = random.bytes(size);
  let at = 0;
  while (at < size) {
    const drained = end.drained.promise;
    at += Math.max(0, socket.write(bytes.subarray(at, at + 65536)));
    if (end.length < at) await Promise.race([drained, end.received(at)]);
  }
  const same = Buffer.compare(await end.received(size), bytes) === 0;
  socket.terminate();
  await end.closed.promise;
  return same;
}

async function ended(worker: Worker): Promise<void> {
  const closed = new Promise((resolve) => worker.addEventListener("close", resolve));
  worker.terminate();
  await closed;
}

async function terminateWithConnections(): Promise<void> {
  const echo = await startEcho();
  const end = new End();
  const sockets = await Promise.all(Array.from({ length: 8 }, () => {
    return connect({ hostname: "127.0.0.1", port: echo.port, socket: end.handlers });
  }));
  while ((await echo.next("connections")) < 8);
  // In the middle of things: bytes are on their way in both directions.
  for (const socket of sockets) socket.write(Buffer.alloc(100_000));
  await ended(echo.worker);
  for (const socket of sockets) socket.terminate();
  await until(() => Ring.default.pendingCount === 0, "own connections are closed");
}

/** A ring that is opened clears away what a Worker left behind. */
async function clearedTo(before: { descriptors: number; bytes: number }): Promise<boolean> {
  await using ring = new Ring({ entries: 8 });
  const own = ring.memory.records.buffer.byteLength; // its slab is there, too
  const more = descriptors().length - before.descriptors;
  return more <= 3 && ringBytes() < before.bytes + 2 * own;
}

const random = new Random(3);
const two = [await startEcho(), await startEcho()];
const jobs = [0, 1, 0, 1].map((i) => echoes(two[i]?.port ?? 0, random, 1 << 20));
const echoed = await Promise.all(jobs);
for (const { worker, next } of two) {
  worker.postMessage("stop");
  await next("stopped");
  await ended(worker);
}

await terminateWithConnections();
await until(async () => {
  await using ring = new Ring({ entries: 8 });
  return !ring.closed;
});
const before = { descriptors: descriptors().length, bytes: ringBytes() };
for (let round = 0; round < 8; round++) await terminateWithConnections();
let clears = 0;
await until(async () => {
  await turns(5);
  return ++clears > 200 || (await clearedTo(before));
});
const after = { descriptors: descriptors().length, bytes: ringBytes() };
console.log(JSON.stringify({ echoed, before, after }));
