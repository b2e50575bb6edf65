// An echo server in a process that may open few files, until its input ends. Prints its port, and
// at the end how many accepts failed for want of a descriptor.

import { listen, Ring, type Socket } from "../../../ts/index.ts";

const listener = listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: { data: (socket: Socket, chunk: Buffer) => void socket.write(chunk) },
});
console.log(listener.port);
await Bun.stdin.text();
const failed = Ring.default.stats().accepts_failed;
listener.stop(true);
console.log(failed);
