// The price of one dispatch: from a record in shared memory to the handler of its connection.
//
// It runs the library's own `drain` over made-up records and receivers that only count, so neither
// the kernel nor a chunk is in it. Usage: `bun bench/micro/dispatch.ts`; divide by `count`.
import { bench, do_not_optimize, run } from "mitata";
import { drain, type ConnectionReceiver } from "../../ts/completion.ts";
import type { Memory } from "../../ts/memory.ts";
import { dataRecords, generation } from "./made_records.ts";

const count = 64;
let received = 0;

function receiver(): ConnectionReceiver {
  return {
    generation,
    onOpen() {},
    onData(_offset, length) {
      received += length;
    },
    onDescriptors() {},
    onDrain() {},
    onEnd() {},
    onForwarded() {},
    onTimeout() {},
    onClose() {},
    onConnectFailed() {},
    onThrown(error) {
      throw error;
    },
  };
}

// `drain` reads nothing but the records.
const memory = { records: dataRecords(count) } as unknown as Memory;
const connections = Array.from({ length: count }, receiver);
const ring = {
  memory,
  connections,
  listeners: [],
  datagrams: [],
  operations: [],
  orphan() {},
  posts: null,
  next: 0,
  count,
  handled: 0,
  limit: Number.POSITIVE_INFINITY,
  calling: false,
};

drain(ring, Number.POSITIVE_INFINITY);
if (received !== count * 64) throw new Error(`expected ${count * 64} bytes, received ${received}`);

bench(`dispatch ${count} records`, () => {
  ring.next = 0;
  drain(ring, Number.POSITIVE_INFINITY);
  do_not_optimize(received);
});

await run();
