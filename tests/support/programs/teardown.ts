// Ends with reads pending on a pipe, a socket and a timer: by `close`, by `exit`, by the death of
// its Worker, or by itself after all was cancelled. Prints what is left of it as its last line.
//
// Argument: "close", "cancel" or "exit"; of a Worker "terminate", "throw" or "leave".

import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { BufferPool, Ring } from "../../../ts/index.ts";
import { descriptors, linkOf, ringBytes } from "../descriptors.ts";
import { pipe } from "../operations.ts";
import { turn, turns, until } from "../until.ts";

/** What is pending is held here, so that nothing is collected. */
const held: unknown[] = [];

/** A read of each kind, all of which wait for ever, into every kind of memory. */
async function pend(ring: Ring, own = pipe()): Promise<number> {
  const pool = new BufferPool({ ring, size: 4096, count: 1 });
  const socket = await ring.socket("unix", "datagram");
  await ring.bind(socket, { unix: `\0bun-uring-teardown-${process.pid}` });
  const pooled = pool.acquire();
  if (pooled === null) throw new Error("no buffer");
  const pending = [
    ring.read(own.fd, new Uint8Array(64)),
    ring.read(own.fd, new ArrayBuffer(4096)),
    ring.read(own.fd, new SharedArrayBuffer(4096)),
    ring.recv(socket, pooled),
    ring.timeout(3_600_000),
    ring.poll(own.fd, "read"),
  ];
  ring.submit();
  held.push(own, pool, pooled, pending);
  return socket;
}

async function main(how: string): Promise<void> {
  // What Bun itself opens at first use is open by now: child processes, the watched eventfd.
  const own = pipe();
  {
    await using first = new Ring();
    await first.timeout(20);
  }
  // Bun closes the stream of a wake fd some turns after it was cancelled.
  await turns(100);
  const before = { descriptors: descriptors().length, bytes: ringBytes() };
  const ring = new Ring();
  const socket = await pend(ring, own);
  const started = performance.now();
  if (how === "exit") process.exit(7);
  if (how === "cancel") {
    ring.cancelAll();
    await ring.drain();
    await ring.close(socket);
    await ring.close();
  } else {
    const error = await ring.close().then(() => null, (reason) => reason as Error);
    if (!error?.message.includes("timeout")) throw new Error(`not listed: ${error}`);
    await using closer = new Ring();
    await closer.close(socket);
  }
  const took = performance.now() - started;
  held.length = 0;
  await until(() => {
    Bun.gc(true);
    return ringBytes() <= before.bytes;
  });
  // The pipe stays open, it was passed in: fsync knows it, and refuses.
  await using other = new Ring();
  const kept = await other.fsync(own.fd).catch((error) => error.code);
  await other.close({ cancel: true });
  const more = () => Math.max(0, descriptors().length - before.descriptors);
  for (let waited = 0; more() > 0 && waited < 10_000; waited++) await turn();
  const left = more();
  console.log(JSON.stringify({ left, inTime: took < 1500, kept }));
}

/** Descriptors of rings and of what wakes them. */
function ringDescriptors(): number {
  return descriptors().filter((fd) => /io_uring|eventfd/.test(linkOf(fd) ?? "")).length;
}

/** A Worker that dies with everything pending; its ring goes when another one opens. */
async function killWorker(how: string): Promise<void> {
  const worker = (argument: string) => new Worker(new URL(import.meta.url), { argv: [argument] });
  const ended = async (one: Worker, way: string) => {
    const exited = new Promise((resolve) => one.once("exit", resolve));
    one.on("error", () => undefined);
    await new Promise((resolve) => one.once("message", resolve));
    if (way === "terminate") await one.terminate();
    else one.postMessage(way);
    await exited;
  };
  // What Bun opens for its first Worker is open by now.
  await ended(worker("idle"), "terminate");
  const before = { bytes: ringBytes(), descriptors: ringDescriptors() };
  await ended(worker("pending"), how);
  await until(async () => {
    Bun.gc(true);
    await turn();
    await new Ring().close(); // clears what dead threads left
    return ringBytes() <= before.bytes && ringDescriptors() <= before.descriptors;
  });
  console.log(JSON.stringify({ gone: true }));
}

const how = process.argv[2] ?? "";
if (!isMainThread) {
  held.push(new Ring());
  if (how === "pending") await pend(held[0] as Ring);
  parentPort?.on("message", (way) => {
    if (way === "leave") process.exit(0);
    throw new Error("the Worker's end");
  });
  parentPort?.postMessage("ready");
} else if (how === "terminate" || how === "throw" || how === "leave") {
  await killWorker(how);
} else {
  await main(how);
}
