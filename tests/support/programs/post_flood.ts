// Workers post to one ring as fast as they can; every post must arrive once, in order per poster.
// Arguments: the number of Workers, the posts of each, "numbers" or "blocks". Prints what arrived
// and how fast. The long form: `bun tests/support/programs/post_flood.ts 4 1000000`.

import { NativeBlock, Ring, type PostData } from "../../../ts/index.ts";
import { native } from "../../../ts/native.ts";
import type { Task } from "./posting_worker.ts";

const [workers = 4, count = 1_000_000] = process.argv.slice(2, 4).map(Number);
const what = process.argv[4] === "blocks" ? "blocks" : "numbers";

const ring = new Ring();
const { token } = ring;
const next = new Array<number>(workers).fill(0);
let misplaced = 0;

function arrived(data: PostData, key: number): void {
  const number = data instanceof NativeBlock ? Number(Buffer.from(data.bytes).toString()) : data;
  if (data instanceof NativeBlock) data[Symbol.dispose]();
  if (next[key] !== number) misplaced++;
  next[key] = number + 1;
}

ring.onPost([0, workers - 1], arrived);

const shared = new Int32Array(new SharedArrayBuffer(8));
const url = new URL("posting_worker.ts", import.meta.url).href;
let refused = 0;
const done = Array.from({ length: workers }, async (_, key) => {
  const worker = new Worker(url);
  const task: Task = { token, shared, what, key, count };
  worker.postMessage(task);
  const { data } = await new Promise<MessageEvent<{ refused: number }>>((resolve, reject) => {
    worker.onmessage = resolve;
    worker.onerror = ({ message }) => reject(new Error(message));
  });
  refused += data.refused;
  worker.terminate();
});

while (next[0] === 0) await ring.wait();
const started = performance.now();
await Promise.all(done);
await ring.runUntilEmpty();
const seconds = (performance.now() - started) / 1000;
const received = next.reduce((sum, number) => sum + number, 0);
const { turns, enters } = ring.stats();
await ring.close();
const perSecond = Math.round(received / seconds);
const blocks = native.bu_block_count();
console.log(JSON.stringify({ received, misplaced, refused, blocks, turns, enters, perSecond }));
