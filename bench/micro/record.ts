// The price of one completion record: reading its fields from shared memory by generated offsets.
//
// Usage: `bun bench/micro/record.ts`. One iteration reads `count` records: divide by it.
import { bench, do_not_optimize, run } from "mitata";
import { RECORD_WORDS } from "../../ts/abi.ts";
import { dataRecords, words } from "./made_records.ts";

const count = 64;
const records = dataRecords(count);

bench(`read ${count} records`, () => {
  let sum = 0;
  for (let at = 0; at < records.length; at += words) {
    sum += records[at + RECORD_WORDS.event] as number;
    sum += records[at + RECORD_WORDS.index] as number;
    sum += records[at + RECORD_WORDS.generation] as number;
    sum += records[at + RECORD_WORDS.result] as number;
    sum += records[at + RECORD_WORDS.offset] as number;
  }
  do_not_optimize(sum);
});

await run();
