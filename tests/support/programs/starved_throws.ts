// An `onStarved` that throws: connections still stand in line, are all served, and each error
// reaches the process. Prints the bytes that came and the errors.

import { connect, listen, Ring, type Socket } from "../../../ts/index.ts";
import { until } from "../until.ts";

const errors = new Set<string>();
process.on("uncaughtException", (error: Error) => void errors.add(error.message));

let calls = 0;
const small = { receiveBuffers: 2, receiveBufferSize: 4096, receiveBlocks: 0 };
const ring = new Ring({
  ...small,
  onStarved() {
    calls++;
    throw new Error("starved");
  },
});
const outside = new Ring();
const unix = `\0bun-uring-${crypto.randomUUID()}`;
let came = 0;
const listener = listen({
  unix,
  ring,
  socket: { data: (_socket: Socket, chunk: Buffer) => void (came += chunk.length) },
});
const target = { unix, ring: outside, socket: {} };
const clients = await Promise.all(Array.from({ length: 12 }, () => connect(target)));
for (const client of clients) void client.send(Buffer.alloc(100_000));
await until(() => came === 1_200_000);
console.log(JSON.stringify({ came, told: calls > 0, errors: [...errors] }));
for (const client of clients) client.terminate();
listener.stop(true);
await ring.close();
await outside.close();
