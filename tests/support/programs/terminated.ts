// Workers that are terminated where it hurts. Arguments: where ("turn", "wait", "pending",
// "traffic", "pipes"), and how many. Prints what the process holds more than at its beginning.
//
// In mid-traffic eight connections exchange bytes with each Worker, which is ended after a random
// number of them; every connection must see its end without help.

import { connect, NativeBlock, Ring, type Socket } from "../../../ts/index.ts";
import { native } from "../../../ts/native.ts";
import { descriptors, linkOf, ringBytes } from "../descriptors.ts";
import { pipe } from "../operations.ts";
import { Random } from "../random.ts";
import { turn, until } from "../until.ts";
import type { Doom } from "./doomed_worker.ts";

const CONNECTIONS = 8;

const how = process.argv[2] as Doom["how"];
const rounds = Number(process.argv[3] ?? 1);
const random = new Random(Number(process.argv[4] ?? 7));
const url = new URL("doomed_worker.ts", import.meta.url).href;

const { fd } = pipe();
const ring = new Ring();
let blocks = 0;
ring.onPost(1, (block: NativeBlock) => {
  blocks++;
  block[Symbol.dispose]();
});

interface Doomed {
  worker: Worker;
  port: number;
}

async function start(): Promise<Doomed> {
  const worker = new Worker(url);
  const told = new Promise<number>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<number>) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });
  worker.postMessage({ how, token: ring.token.id, fd } satisfies Doom);
  return { worker, port: await told };
}

async function ended(worker: Worker): Promise<void> {
  const closed = new Promise((resolve) => worker.addEventListener("close", resolve));
  worker.terminate();
  await closed;
}

/** Its connections, the bytes that came over them, and how many are closed. */
async function converse(port: number) {
  const state = { received: 0, closed: 0 };
  const message = Buffer.alloc(10_000, "mid-traffic ");
  const socket = {
    data(peer: Socket, chunk: Buffer) {
      state.received += chunk.length;
      peer.write(chunk.length < 100 ? message : chunk);
    },
    close: () => void state.closed++,
  };
  const options = { hostname: "127.0.0.1", port, ring, socket };
  const peers = await Promise.all(Array.from({ length: CONNECTIONS }, () => connect(options)));
  for (const peer of peers) peer.write(message);
  return state;
}

async function terminateOne(): Promise<number> {
  const { worker, port } = await start();
  if (how === "pipes") return stall(worker, port);
  if (how !== "traffic") {
    for (let turns = random.between(0, 20); turns > 0; turns--) await turn();
    await ended(worker);
    return 0;
  }
  const state = await converse(port);
  const enough = random.between(0, 2_000_000);
  await until(() => state.received >= enough, "bytes go back and forth");
  await ended(worker);
  await until(() => {
    native.bu_rings_bury();
    return state.closed === CONNECTIONS;
  }, "every connection has seen the end");
  return state.received;
}

/** Connections that send and do not read, until nothing moves any more. */
async function stall(worker: Worker, port: number): Promise<number> {
  const before = pipeEnds();
  let closed = 0;
  const socket = { close: () => void closed++ };
  const options = { hostname: "127.0.0.1", port, ring, socket };
  const peers = await Promise.all(Array.from({ length: CONNECTIONS }, () => connect(options)));
  for (const peer of peers) {
    peer.pause();
    peer.send(Buffer.alloc(32 << 20)).catch(String); // it breaks with the Worker
  }
  const { backend, features } = ring;
  const pipes = features.has("splice_pipes") ? 2 * CONNECTIONS : 0;
  await until(() => pipeEnds() - before >= pipes, `a pipe for each, by ${backend}`);
  await ended(worker);
  for (const peer of peers) peer.terminate();
  await until(() => {
    native.bu_rings_bury();
    return closed === CONNECTIONS;
  }, "every connection is closed");
  return pipes;
}

const pipeEnds = () => descriptors().filter((fd) => linkOf(fd)?.startsWith("pipe:")).length;

/** What the process holds, after the rings of dead Workers are cleared away. */
function held() {
  Bun.gc(true);
  native.bu_rings_bury();
  return {
    descriptors: descriptors().length,
    bytes: ringBytes(),
    blocks: native.bu_block_count(),
    pending: ring.pendingCount,
  };
}

await terminateOne(); // what Bun opens for its first Worker is open from here on
await terminateOne();
const before = held();
let received = 0;
for (let round = 0; round < rounds; round++) {
  received += await terminateOne();
  if (round % 100 === 99) console.error(`${round + 1} terminated`);
}
let after = held();
await until(() => {
  // A block that was on its way to a Worker that died is freed by the next that goes that way.
  new NativeBlock(1)[Symbol.dispose]();
  after = held();
  return after.descriptors <= before.descriptors && after.bytes <= before.bytes &&
    after.blocks === 0;
}, `${JSON.stringify(after)} becomes ${JSON.stringify(before)}`);
const more = {
  descriptors: Math.max(0, after.descriptors - before.descriptors),
  bytes: Math.max(0, after.bytes - before.bytes),
  blocks: after.blocks,
  pending: after.pending - before.pending,
};
console.log(JSON.stringify({ more, received, posted: blocks }));
process.exit(0);
