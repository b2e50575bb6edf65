// The price of one operation through the public API: NOPs in batches of 64, with callbacks and with
// promises, beside the same batches through the library's bare calls.
//
// Usage: `bun bench/micro/nop.ts`; divide by `count`. The bare calls are what no API can be faster
// than: io_uring itself, the slots and the records, without handles and dispatch.
import { bench, run } from "mitata";
import { Ring } from "../../ts/index.ts";
import { native } from "../../ts/native.ts";

const count = 64;
await using ring = new Ring();
await using bare = new Ring();
let completed = 0;
const complete = () => {
  completed++;
};

bench(`${count} NOPs by bare calls`, () => {
  for (let i = 0; i < count; i++) native.bu_nop(bare.handle);
  let records = 0;
  while (records < count) records += native.bu_ring_turn(bare.handle, 0);
});

bench(`${count} NOPs with callbacks`, () => {
  completed = 0;
  for (let i = 0; i < count; i++) ring.nop(complete);
  ring.drainSync();
  if (completed !== count) throw new Error(`expected ${count} completions, got ${completed}`);
});

bench(`${count} NOPs with promises`, async () => {
  const operations = Array.from({ length: count }, () => ring.nop());
  await Promise.all(operations);
});

await run();
