// Receives descriptors in a process that has no place left for them. Prints the bytes that came,
// why the connection ended, and what became of the descriptors, as JSON.

import { closeSync, openSync } from "node:fs";
import { connect, listen, Ring, type Socket } from "../../../ts/index.ts";

const ring = Ring.default;
const unix = `\0bun-uring-${crypto.randomUUID()}`;
const accepted = Promise.withResolvers<Socket>();
const closed = Promise.withResolvers<unknown>();
let bytes = "";
const listener = listen({
  unix,
  passDescriptors: true,
  socket: {
    open(socket) {
      socket.pause();
      accepted.resolve(socket);
    },
    data: (_socket, chunk) => void (bytes += chunk.toString()),
    close: (_socket, error) => closed.resolve((error as { code?: string } | undefined)?.code),
  },
});
const client = await connect({ unix, socket: {} });
const server = await accepted.promise;
const one = openSync("/dev/null", "r");
await client.send("three", { descriptors: [one, one, one] });
const taken = [one];
let full = "";
while (full === "") {
  try {
    taken.push(openSync("/dev/null", "r"));
  } catch (error) {
    full = (error as { code: string }).code;
  }
}
closeSync(taken.pop() as number); // of three there is a place for one
server.resume();
const ended = await closed.promise;
for (const fd of taken) closeSync(fd);
const { descriptors_dropped, descriptors_truncated } = ring.stats();
listener.stop(true);
client.terminate();
console.log(JSON.stringify({ full, bytes, ended, descriptors_dropped, descriptors_truncated }));
