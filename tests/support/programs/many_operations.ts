// As many operations as the first argument says, with every sort of end and every sort of memory,
// in rounds of a thousand. Prints what the process holds from a fifth of them on, ten times.

import { closeSync } from "node:fs";
import { BufferPool, prepare, Ring } from "../../../ts/index.ts";
import { descriptors, residentBytes } from "../descriptors.ts";
import { file, pipe } from "../operations.ts";
import { turns } from "../until.ts";

const TOTAL = Number(process.argv[2]);
const ROUND = 1000;
/** Operations of a round that are no NOPs. */
const OTHERS = 40;
const SAMPLES = 10;

const ring = new Ring();
const ends = pipe();
const own = file("0123456789");
const pool = new BufferPool({ ring, size: 4096, count: 4 });
const [registered] = ring.buffers.register([new SharedArrayBuffer(4096)]);
if (registered === undefined) throw new Error("no registered buffer");
const page = new Uint8Array(4096);
const shared = new SharedArrayBuffer(4096);
let owned = new ArrayBuffer(4096);
let ended = 0;
const count = () => ended++;

/** Twenty in each pass, one after the other or linked; three of them count themselves. */
async function others(): Promise<void> {
  const rejected = () => void count();
  for (let i = 0; i < OTHERS / 20; i++) {
    const moved = await ring.read(own.fd, owned, { at: 0 });
    owned = moved.buffer;
    await ring.write(own.fd, page.subarray(0, 10), { at: 0 });
    await ring.read(own.fd, page, { at: 0 });
    await ring.read(own.fd, shared, { at: 0 });
    await ring.read(own.fd, registered as never, { at: 0 });
    using buffer = pool.acquire();
    if (buffer !== null) await ring.read(own.fd, buffer, { at: 0 });
    await ring.readv(own.fd, [page.subarray(0, 2), page.subarray(2, 4)], { at: 0 });
    await ring.statx(own.path);
    closeSync(await ring.openat(own.path));
    await ring.fsync(9999).then(undefined, rejected);
    const waiting = ring.read(ends.fd, new Uint8Array(64), { timeout: 60_000 });
    waiting.cancel();
    await waiting.then(undefined, rejected);
    const late = ring.timeout(60_000);
    ring.submit();
    late.cancel();
    await late.then(undefined, rejected);
    await ring.link([
      prepare.nop(), prepare.fsync().file(9999), prepare.nop(), prepare.nop(),
    ]);
    await ring.batch([prepare.nop(), prepare.nop(), prepare.nop(), prepare.nop()]);
  }
  ended += OTHERS - 3 * (OTHERS / 20);
}

async function sample() {
  await turns(10);
  // The engine gives memory back when it likes: the least of some looks is what is really held.
  let resident = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    Bun.gc(true);
    Bun.shrink();
    await turns(5);
    resident = Math.min(resident, residentBytes());
  }
  return {
    ended,
    resident,
    descriptors: descriptors().length,
    slots: ring.operations.filter((operation) => operation !== undefined).length,
    table: ring.operations.length,
    buffers: pool.stats.free,
  };
}

const samples = [];
const rounds = TOTAL / ROUND;
for (let round = 0; round <= rounds; round++) {
  const part = (rounds * 4) / 5 / (SAMPLES - 1);
  const due = rounds / 5 + samples.length * part;
  if (samples.length < SAMPLES && round >= Math.floor(due)) samples.push(await sample());
  if (round === rounds) break;
  for (let i = 0; i < ROUND - OTHERS; i++) ring.nop(count);
  await others();
  await ring.drain();
}
const stats = ring.stats();
await ring.close();
console.log(JSON.stringify({ ended, samples, stats }));
