// Workers that are terminated in the middle of a post, and Workers whose ring is posted to while
// they are terminated. Arguments: how many of each. Prints what went wrong and what is left.

import { NativeBlock, Ring, type PostData, type UringError } from "../../../ts/index.ts";
import { native } from "../../../ts/native.ts";
import { descriptors } from "../descriptors.ts";
import { Random } from "../random.ts";
import { until } from "../until.ts";
import type { Endless } from "./endless_poster.ts";

const rounds = Number(process.argv[2] ?? 100);
const random = new Random(5);
const url = new URL("endless_poster.ts", import.meta.url).href;

function start(message: Endless): Worker {
  const worker = new Worker(url);
  worker.onerror = ({ message: reason }) => {
    console.error(reason);
    process.exit(1);
  };
  worker.postMessage(message);
  return worker;
}

async function ended(worker: Worker): Promise<void> {
  let closed = false;
  worker.addEventListener("close", () => (closed = true));
  worker.terminate();
  await until(() => closed, "a terminated Worker tells its end");
}

/** Two posters die; what came from each has no gap. The number of posts that were out of place. */
async function postersDie(ring: Ring): Promise<number> {
  const next = [0, 0];
  let misplaced = 0;
  const arrived = (data: PostData, key: number): void => {
    const number = data instanceof NativeBlock ? Number(Buffer.from(data.bytes).toString()) : data;
    if (data instanceof NativeBlock) data[Symbol.dispose]();
    if (next[key] !== number) misplaced++;
    next[key] = number + 1;
  };
  using _posts = ring.onPost([0, 1], arrived);
  const { token } = ring;
  const workers = [0, 1].map((key) => start({ token: structuredClone(token), key }));
  const most = random.between(200, 2000);
  await until(async () => {
    if (Math.min(...next) < most) await ring.wait(100);
    return Math.min(...next) >= most;
  }, "both posters are heard");
  await Promise.all(workers.map(ended));
  await ring.runUntilEmpty();
  return misplaced;
}

/** A receiver dies; its posters are told so. The code of what they are told. */
async function receiverDies(): Promise<string> {
  const worker = start({ key: 0 });
  const told: { id: number }[] = [];
  worker.onmessage = ({ data }) => void told.push(data);
  await until(() => told.length === 1, "the receiver tells its token");
  const poster = Ring.open(told[0] as { id: number });
  const closed = ended(worker);
  let code = "";
  await until(() => {
    code = refusalOf(poster);
    return code !== "EAGAIN";
  }, "the posters of a dead receiver are told so");
  await closed;
  return code;
}

/** Posts until it is refused: the code of why; for a while, if the receiver keeps pace. */
function refusalOf(poster: ReturnType<typeof Ring.open>): string {
  try {
    for (let i = 0; i < 10_000; i++) {
      if (i % 3 === 0) poster.post(1, new NativeBlock(100));
      else poster.post(1, i);
    }
    return "EAGAIN";
  } catch (error) {
    return (error as UringError).code;
  }
}

const ring = new Ring();
await postersDie(ring);
await receiverDies();

/** With a ring that was just opened: it clears away what dead Workers left. */
async function held(): Promise<number> {
  await using _clearing = new Ring({ entries: 8 });
  return descriptors().length;
}

const before = await held();
let misplaced = 0;
const codes = new Set<string>();
for (let round = 0; round < rounds; round++) {
  misplaced += await postersDie(ring);
  codes.add(await receiverDies());
}
let after = 0;
await until(async () => {
  Bun.gc(true);
  after = await held();
  return native.bu_block_count() === 0 && after <= before;
}, "blocks and descriptors of dead Workers are gone");
const blocks = native.bu_block_count();
console.log(JSON.stringify({ misplaced, codes: [...codes], blocks, leaked: after - before }));
process.exit(0);
