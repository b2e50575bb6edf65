// Made-up data records in the layout of the real ones, for the prices of reading and dispatching.
//
// They follow the generated offsets, so a change of the layout changes what is measured.
import { Event, RECORD_SIZE, RECORD_WORDS } from "../../ts/abi.ts";

export const words = RECORD_SIZE / 4;
export const generation = 1;

/** `count` records of received data, one for each of `count` connections. */
export function dataRecords(count: number): Int32Array {
  const records = new Int32Array(count * words);
  for (let i = 0; i < count; i++) {
    const at = i * words;
    records[at + RECORD_WORDS.event] = Event.data;
    records[at + RECORD_WORDS.index] = i;
    records[at + RECORD_WORDS.generation] = generation;
    records[at + RECORD_WORDS.result] = 64;
    records[at + RECORD_WORDS.offset] = i * 64;
  }
  return records;
}
